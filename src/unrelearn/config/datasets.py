"""The data set's files, and what else must fit it."""

from typing import Any

from hydra.utils import instantiate

from unrelearn import check
from unrelearn.advice import problem, say_once, shown
from unrelearn.config import classifiers, denoisers, federations
from unrelearn.config.classes import doubtful, forget_classes
from unrelearn.config.groups import name_of
from unrelearn.config.images import check_images
from unrelearn.config.schema import Config
from unrelearn.errors import UsageError
from unrelearn.forgotten import names_images


def of_kind(cfg: Config) -> Any:
    """The rules of this kind of model."""
    if cfg.model.gan is not None:
        return federations
    return classifiers if cfg.model.network is not None else denoisers


def check_dataset(cfg: Config, *, in_doubt: bool) -> list[str]:
    """Problems of the data set and of what must fit it.

    in_doubt: `forget` comes from a yaml file.
    """
    dataset, problems = _there("dataset", cfg)
    if problems:
        return problems
    if hasattr(dataset, "columns") != (cfg.model.gan is not None):
        return [_other_kind(cfg, dataset)]
    if cfg.model.gan is not None:
        return federations.check_data(cfg, dataset)
    return [
        *of_kind(cfg).check_data(cfg, dataset),
        *_proxy(cfg, dataset),
        *_forgotten(cfg, dataset, in_doubt),
    ]


def _other_kind(cfg: Config, dataset: Any) -> str:
    table = hasattr(dataset, "columns")
    what, wants = ("a table", "images") if table else ("of images", "a table")
    instead = "Type experiment=vflgan" if table else "Type dataset=digits_halves"
    why = f"is {what}, and model={cfg.model.name} is of {wants}"
    return problem("dataset", name_of(cfg.dataset), why, instead)


def _forgotten(cfg: Config, dataset: Any, in_doubt: bool) -> list[str]:
    """Problems of `forget`, and of what reads it."""
    if names_images(cfg.forget):
        return check_images(cfg, dataset)
    try:
        forgotten = forget_classes(cfg.forget, dataset)
    except UsageError as error:
        return error.problems
    method, problems = cfg.method, doubtful(cfg.forget, dataset) if in_doubt else []
    problems += _before(cfg, dataset, forgotten)
    counts = {"sampler.num_images": cfg.sampler.num_images}
    if cfg.sampler.second and "other_sampler" in cfg.eval:
        counts["sampler.second.num_images"] = cfg.sampler.second.num_images
    for key, images in counts.items():
        if images < len(forgotten):
            why = f"is shared by the forgotten classes, {len(forgotten)} of them, and the last ones"
            enough = {key: 50 * len(forgotten)}
            problems.append(problem(key, images, f"{why} would have no image", enough))
    retained = set(range(len(dataset.class_names))) - set(forgotten)
    for name in ("memory_class", "anchor_class"):
        other, key = method.get(name), f"method.{name}"
        if isinstance(other, int) and other not in retained:
            why = "must be the index of a retained class"
            problems.append(problem(key, other, why, {key: None}))
    ratio = method.get("fisher_ratio")
    if method["_target_"].endswith(".Retrain") and ratio is not None:
        why = "a network of random weights has no Fisher information to speak of"
        instead = "Leave +method.fisher_ratio out"
        problems.append(problem("method.fisher_ratio", ratio, why, instead))
    if method.get("memory") == "counterpart" and not hasattr(dataset, "counterpart"):
        why = "this data set has no attributes to flip"
        instead = "Type method.memory=another_class, or dataset=celeba"
        problems.append(problem("method.memory", "counterpart", why, instead))
    return problems


def _there(key: str, cfg: Config) -> tuple[Any, list[str]]:
    """As `_instantiated`; in a dry run files that are not here yet are no problem, and said."""
    dataset, problems = _instantiated(key, cfg)
    if problems and cfg.dry_run and _named(dataset):
        for line in problems:
            say_once(f"not yet: {line}")
        return dataset, []
    return dataset, problems


def _named(dataset: Any) -> bool:
    """Whether its classes are known, of which some are named by its files."""
    try:
        return bool(getattr(dataset, "class_names", None))
    except (UsageError, OSError):
        return False


def _instantiated(key: str, cfg: Config) -> tuple[Any, list[str]]:
    """The data set that a part of the configuration describes, or None, and the problems of its
    files.
    """
    part = check.at(cfg, key)
    try:
        dataset = instantiate(part, _convert_="all")
        return dataset, [line.replace("dataset.", f"{key}.") for line in dataset.check()]
    except OSError as error:
        whose = check.owner(error.filename, cfg) or f"{key}.root"
        why = f"{shown(error.filename)} can not be read ({error.strerror})"
        instead = f"Type {whose}=FOLDER with one that you may read"
        return None, [problem(whose, check.at(cfg, whose), why, instead)]
    except UsageError as error:
        return None, error.problems
    except Exception as error:  # a constructor may raise anything
        cause = shown(" ".join(str(error.__cause__ or error).split())[:200])
        why = f"can not be made of these arguments ({cause})"
        instead = f"Type python run.py {key}=NAME --cfg job to see those of another one"
        return None, [problem(f"{key}._target_", part["_target_"], why, instead)]


def _before(cfg: Config, dataset: Any, forgotten: list[int]) -> list[str]:
    """Problems of classes that were forgotten before."""
    before, key = cfg.forgotten_before, "forgotten_before"
    if not before:
        return []
    if cfg.model.network is not None:
        return [problem(key, before, "is for denoisers", f"Leave {key} out")]
    try:
        gone = forget_classes(before, dataset)
    except UsageError as error:
        return [line.replace("forget=", f"{key}=") for line in error.problems]
    left = len(dataset.class_names) - len({*gone, *forgotten})
    if {*gone} & {*forgotten} or not left:
        why = "must be other classes than forget, and leave one that is retained"
        return [problem(key, before, why, {key: []})]
    if cfg.model.checkpoint is None:
        why = "is of weights from elsewhere; what is trained here has forgotten nothing"
        return [problem(key, before, why, "Type model.checkpoint=FOLDER")]
    return []


def _proxy(cfg: Config, dataset: Any) -> list[str]:
    """Problems of another data set that an attack trains on: it must be there, and fit the
    network.
    """
    if "proxy" not in cfg.attack:
        return []
    proxy, problems = _there("attack.proxy", cfg)
    if not problems and not hasattr(proxy, "load"):
        key, instead = "attack.proxy._target_", "unrelearn.data.mnist.MNIST"
        why = "is read from disk, too large for a proxy"
        problems = [problem(key, cfg.attack["proxy"]["_target_"], why, {key: instead})]
    if problems:
        return problems
    shape, wanted = ([d.channels, d.image_size, d.image_size] for d in (proxy, dataset))
    if shape == wanted:
        return []
    return [
        f"attack.proxy: its images are {shape} (channels, height, width), and the model's {wanted}."
        f" Type attack.proxy.image_size={dataset.image_size}, or a proxy with as many channels"
    ]
