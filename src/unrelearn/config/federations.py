"""Rules of federated generators: what is published, who holds what, what may be claimed."""

from functools import partial
from typing import Any

from hydra.utils import get_object, instantiate

from unrelearn.advice import problem, typed
from unrelearn.config.audited import check_targets
from unrelearn.config.groups import name_of
from unrelearn.config.models import Networks
from unrelearn.config.rules import Problems, Rules, stages
from unrelearn.config.schema import Config

FEWEST = 4  # training rows: a half of them is measured beside the other


def networks_of(cfg: Config) -> Networks:
    assert cfg.model.gan is not None
    return cfg.model.gan


def identity(cfg: Config) -> Problems:
    """Nothing is unlearned of tables yet."""
    for group, control in (("method", "original"), ("attack", "none")):
        given = getattr(cfg, group)
        if not get_object(given["_target_"]).identity:
            why = f"changes one model, and model={cfg.model.name} is of federated generators"
            yield problem(group, name_of(given), why, {group: control})
    if cfg.held_out.share:
        why, key = "is of images; of tables test rows are kept in any case", "held_out.share"
        yield problem(key, cfg.held_out.share, why, {key: 0.0})


def widths(cfg: Config) -> Problems:
    for name in ("generator", "extractor", "server"):  # a server may be one linear layer
        value, key = getattr(networks_of(cfg), name), f"model.gan.{name}"
        if not (value or name == "server") or any(width < 1 for width in value):
            yield problem(key, value, "must be one or more widths", {key: [32, 64]})


def rows(cfg: Config) -> Problems:
    if not cfg.gan.design:
        yield problem("design", "[]", "nothing would be trained", {"design": ["vflgan"]})
    noised = [name for name in cfg.gan.privacy if name != "none"]
    protected = cfg.gan.protected
    if cfg.gan.design and (noised or cfg.gan.audit) and protected not in cfg.gan.design:
        why, first = f"must be one of design={','.join(cfg.gan.design)}", next(iter(cfg.gan.design))
        yield problem("gan.protected", protected, why, {"gan.protected": first})
    if not cfg.gan.privacy:
        yield problem("privacy", "[]", "nothing would be trained", {"privacy": ["none"]})


def privacy(cfg: Config) -> Problems:
    """What an accountant needs, and what would undo a guarantee."""
    for name, given in cfg.gan.privacy.items():
        if "noise_multiplier" not in given:
            continue
        key, noise = f"gan.privacy.{name}", given["noise_multiplier"]
        if noise is None and given["epsilon"] is None:
            why = f"needs an epsilon, or {key}.noise_multiplier"
            yield problem(f"{key}.epsilon", "null", why, {f"{key}.epsilon": 10})
        if given["epsilon"] is not None and given["delta"] is None:
            why = "an epsilon is one of a delta, below one over the number of rows"
            yield problem(f"{key}.delta", "null", why, {f"{key}.delta": 1e-5})
        mode = get_object(given["_target_"])
        if given["delta"] is not None:
            yield from _accounted(cfg, f"{key}.noise_multiplier", noise, mode.least_noise)
        if mode.guaranteed and cfg.gan.select == "best_fd":
            why = f"looks at the training rows outside the accountant of privacy={name}"
            yield problem("gan.select", "best_fd", why, {"gan.select": "last"})


def _accounted(cfg: Config, key: str, noise: float | None, least: float) -> Problems:
    """Of all noise of a mode, that which is more than an accountant can see."""
    multipliers = {key: noise}
    if cfg.gan.statistics == "dp":
        multipliers["gan.statistics_noise_multiplier"] = cfg.gan.statistics_noise_multiplier
    for name, value in multipliers.items():
        if value is not None and value < least:
            why = f"too little to be accounted for at a delta, which can be of {least} and more"
            yield problem(name, value, why, {name: least})


def transport(cfg: Config) -> Problems:
    if cfg.gan.transport == "gloo" and cfg.gan.select == "best_fd":
        why = "looks at all columns in one place, and with gan.transport=gloo nobody has them"
        yield problem("gan.select", "best_fd", why, {"gan.select": "last"})


RULES: Rules = (
    (identity, ("method", "attack", "held_out.")),
    (widths, ("model.gan.",)),
    (rows, ("design", "privacy", "gan.")),
    (privacy, ("privacy", "gan.")),
    (transport, ("gan.",)),
    (partial(stages, whose="federated generators have"), ("stages",)),
)


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Problems of a table with how its columns are shared."""
    from unrelearn.errors import UsageError
    from unrelearn.gan.columns import partition

    try:
        parts = partition(cfg.gan.partition, dataset)
    except UsageError as error:
        return error.problems
    problems = check_targets(cfg, dataset)
    if len(parts) < 2 or not all(parts):
        why = "leaves a party without columns" if len(parts) > 1 else "there must be two parties"
        instead = {"gan.partition": "halves"}
        problems.append(problem("gan.partition", cfg.gan.partition, why, instead))
    unknown = [column.name for column in dataset.columns if not column.values and not column.public]
    if unknown and cfg.gan.statistics == "public":
        why = f"nothing public is known of {', '.join(unknown[:5])}"
        problems.append(problem("gan.statistics", "public", why, {"gan.statistics": "own"}))
    problems += [*_files(cfg), *_bounds(cfg, dataset), *_images(cfg, dataset)]
    problems += [*_batches(cfg, dataset), *_deltas(cfg, dataset)]
    bad = problems or [*rows(cfg), *privacy(cfg)]
    return problems if bad else [*_epsilons(cfg, dataset, len(parts))]


def _files(cfg: Config) -> Problems:
    """A file a party, or a list of its columns, says who holds what."""
    root, key = cfg.dataset.get("root"), "gan.partition"
    given = "root" if isinstance(root, list) and len(root) > 1 else "parties"
    if cfg.dataset.get(given) and cfg.gan.partition != "columns":
        why = f"dataset.{given} says which columns a party holds"
        yield problem(key, cfg.gan.partition, why, {key: "columns"})


def _deltas(cfg: Config, dataset: Any) -> Problems:
    """With a larger one, to publish one record of all as it is would keep the promise."""
    rows = dataset.training_rows()
    for name, given in cfg.gan.privacy.items():
        key, delta = f"gan.privacy.{name}.delta", given.get("delta")
        if isinstance(delta, float) and 1 / rows <= delta <= 0.1:  # beyond it no delta at all
            why = f"must be below one over the {rows} training rows"
            yield problem(key, delta, why, {key: float(f"{0.5 / rows:.0e}")})


def _epsilons(cfg: Config, dataset: Any, parties: int) -> Problems:
    """Those that no noise gives: what is trained before would be in vain. What is found of the
    noise is found once.
    """
    from unrelearn.errors import UsageError
    from unrelearn.gan.privacy.none import AccountedTraining

    recipe, gan = cfg.model.pretrain, cfg.gan
    assert cfg.model.gan is not None
    steps = recipe.max_steps, cfg.model.gan.critic_steps
    noise = gan.statistics_noise_multiplier if gan.statistics == "dp" else None
    for name, given in gan.privacy.items():
        epsilon, delta, known = (given.get(k) for k in ("epsilon", "delta", "noise_multiplier"))
        asked = isinstance(epsilon, int | float) and isinstance(delta, float) and known is None
        if not asked or epsilon <= 0 or not 0 < delta <= 0.1:  # which is said elsewhere
            continue
        design = instantiate(gan.design[gan.protected], _convert_="all")
        parts = 1 if design.joined else parties
        size = dataset.training_rows(), recipe.batch_size
        training = AccountedTraining(*size, *steps, parts, design.server, noise)
        try:
            instantiate(given, _convert_="all").prepared(training)
        except UsageError as error:
            yield from (f"gan.privacy.{name}.{line}" for line in error.problems)


def _bounds(cfg: Config, dataset: Any) -> Problems:
    """Of all columns that are no categories, if they are to be released."""
    if cfg.gan.statistics != "dp":
        return
    columns = [column for column in dataset.columns if not column.values]
    if unknown := [column.name for column in columns if not column.bounds]:
        why = f"needs bounds, known without looking at the rows, of {', '.join(unknown[:5])}"
        instead = {"dataset.bounds": {name: [0, 100] for name in unknown[:5]}}
        yield problem("gan.statistics", "dp", why, instead)


def _images(cfg: Config, dataset: Any) -> Problems:
    """What looks at images needs some."""
    if dataset.images is not None:
        return
    why = f"looks at images, and the rows of dataset={name_of(cfg.dataset)} are none"
    if "fd_oracle" in cfg.eval:
        others = [name for name in cfg.eval if name != "fd_oracle"] or ["fd_raw"]
        instead = f"Type {typed({'eval': others})}, or dataset=digits_halves"
        yield f"eval.fd_oracle: {why}. {instead}"
    if cfg.gan.audit is not None and cfg.gan.audit.features == "oracle":
        key = "gan.audit.features"
        yield problem(key, "oracle", why, {key: "columns"})


def _batches(cfg: Config, dataset: Any) -> Problems:
    """Whether there are rows for a batch; a mode of privacy may share them out among critics."""
    size = cfg.model.pretrain.batch_size
    rows = dataset.training_rows() - (cfg.gan.audit is not None)  # of the smaller world
    if rows < FEWEST:
        why = f"leaves {rows} training rows, and {FEWEST} are the fewest that can be measured"
        yield problem("dataset", name_of(cfg.dataset), why, "Choose one of more rows")
        return
    if rows < size:
        key, why = "model.pretrain.batch_size", f"there are {rows} training rows"
        yield problem(key, size, why, {key: max(1, rows // 2)})
        return
    for name, given in cfg.gan.privacy.items():
        if not (critics := given.get("critics")):
            continue
        key = f"gan.privacy.{name}.critics"
        if rows // critics < size:
            why = f"leaves {rows // critics} of {rows} rows to a critic, whose batches have {size}"
            yield problem(key, critics, why, {key: max(2, rows // size)})
