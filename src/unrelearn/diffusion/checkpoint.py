"""Weights trained elsewhere (model.checkpoint): which networks lie in a folder, and what lies with
them: their noise schedule, whether they are an average (EMA), the range of their images.

Read are a folder of ours (raw/ and ema/), a network of diffusers (config.json and safetensors), its
pipeline folder (model_index.json, unet/, scheduler/) and what its training scripts keep (unet/,
unet_ema/). Nothing here opens the weights: all of it is said before anything is computed.
"""

import inspect
import json
import math
import re
from pathlib import Path

from unrelearn.errors import UsageError

FOLDERS = ("raw", "ema", "unet", "unet_ema")  # where the networks of a larger folder lie
STEM = "diffusion_pytorch_model"


def names_of(stem: str) -> re.Pattern[str]:
    """What diffusers calls a whole file, or the index of one in pieces; a variant is "fp16",
    "bf16", ...
    """
    whole, index = rf"{stem}(?:\.(\w+))?\.safetensors", rf"{stem}\.safetensors\.index(?:\.(\w+))?"
    return re.compile(rf"{whole}|{index}\.json")


WEIGHTS = names_of(STEM)
# what the keys of model.schedule can express; config.py checks the same
PREDICTIONS = ("epsilon", "sample", "v_prediction")
BETA_SCHEDULES = ("linear", "scaled_linear")
MAX_TIMESTEPS = 1000
# what a scheduler of diffusers may change besides those keys: only these values are ours
FIXED = {"trained_betas": None, "rescale_betas_zero_snr": False}


class Unreadable(UsageError):
    """why: what is wrong, in the middle of the line."""

    def __init__(self, folder: Path, why: str):
        self.why = why
        super().__init__(
            f"model.checkpoint={folder}: can not be read as a UNet2DModel or SalunUNet ({why}). "
            f"Type model.checkpoint=FOLDER with a config.json and its {STEM}.safetensors"
        )


def networks(path: Path) -> dict[str, Path]:
    """The folders of the networks in `path`, by the name of their weights: "raw" or "ema".

    Raises:
        UsageError: a pipeline with more parts than a network and a scheduler.
    """
    parts = _json(path / "model_index.json") if (path / "model_index.json").is_file() else {}
    others = [
        name
        for name, part in parts.items()
        if isinstance(part, list) and any(part) and name not in (*FOLDERS, "scheduler")
    ]
    if others:
        raise UsageError(
            f"model.checkpoint={path}: is a pipeline with {', '.join(others)}, whose network is "
            "not one of images and classes alone. Type model.checkpoint=null to pretrain here"
        )
    ours = [path / name for name in FOLDERS[:2] if (path / name).is_dir()]
    theirs = [path / name for name in FOLDERS[2:] if (path / name).is_dir()]
    alone = (path / "config.json").is_file() or not theirs
    return {label(folder): folder for folder in ours or ([path] if alone else theirs)}


def label(folder: Path) -> str:
    """ "ema" for a folder called so (ema, unet_ema, ...) or written by diffusers' EMAModel, else
    "raw".
    """
    # EMAModel.save_pretrained puts its own state into config.json
    averaged = {"decay", "optimization_step"}
    words = set(re.split(r"[\W_]+", folder.name.lower()))
    named = "ema" in words and not words & {"no", "non", "without"}
    file = folder / "config.json"
    written = file.is_file() and averaged <= _json(file).keys()
    return "ema" if named or written else "raw"


def network_config(folder: Path) -> dict:
    """What config.json says of a network.

    Raises:
        UsageError: there is none, or it is for images of another range, or has no table of classes.
    """
    if not (folder / "config.json").is_file():
        raise Unreadable(folder, "it holds no config.json")
    config = _json(folder / "config.json")
    why = None
    if config.get("_class_name") not in ("UNet2DModel", "SalunUNet"):
        named = config.get("_class_name") or ", ".join(config.get("architectures") or ())
        why = f"a {named}" if named else "its config.json names no class of diffusers"
    elif config.get("center_input_sample"):
        why = (
            "center_input_sample=true: it was trained on images in [0, 1], and ours lie in [-1, 1]"
        )
    elif config.get("class_embed_type"):
        why = f"class_embed_type={config['class_embed_type']}: it has no embedding for each class"
    if why:
        raise Unreadable(folder, why)
    return config


def variant(folder: Path, stem: str = STEM) -> str | None:
    """Which of the weights in a folder are read: None for the ordinary file, else e.g. "fp16".

    stem: what the files are called, e.g. "model" in transformers.

    Raises:
        UsageError: there are none in safetensors, or several variants and none of them ordinary, or
            a part of them is missing.
    """
    names = sorted(path.name for path in folder.iterdir())
    matches = [match for match in map(names_of(stem).fullmatch, names) if match]
    variants = {match[1] or match[2] for match in matches}
    if None in variants or len(variants) == 1:
        chosen = None if None in variants else variants.pop()
        for match in matches:
            if (match[1] or match[2]) == chosen:
                _check_whole(folder / match[0])
        return chosen
    if variants:
        several = ", ".join(sorted(variants))
        raise Unreadable(folder, f"it holds the variants {several}; keep one of them")
    pickles = [name for name in names if name.endswith((".bin", ".ckpt", ".pt", ".pth"))]
    why = f"it holds no {stem}.safetensors"
    if pickles:
        why += (
            f"; {pickles[0]} is a pickle, which is not opened, as it could run any program: write"
            " it as safetensors where it was trained (save_pretrained of diffusers does)"
        )
    raise Unreadable(folder, why)


def files(path: Path) -> list[Path]:
    """What is read of a file or folder: of each network its config.json and weights, and the
    schedule.
    """
    if not path.is_dir():
        return [path]
    read = {path / "model_index.json"}
    for folder in networks(path).values():
        read |= {file for file in folder.iterdir() if WEIGHTS.fullmatch(file.name)}
        read |= {*folder.glob(f"{STEM}*-of-*.safetensors"), folder / "config.json"}
        read |= {scheduler_file(folder) or folder / "config.json"}
    return sorted(file for file in read if file.is_file())


def _check_whole(file: Path) -> None:
    """That all of the weights lie there, by their headers alone.

    Raises:
        UsageError: a file is missing, or shorter than its header says.
    """
    from safetensors import SafetensorError, safe_open

    parts = [file]
    if file.suffix == ".json":
        listed = _json(file).get("weight_map")
        names = list(listed.values()) if isinstance(listed, dict) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise Unreadable(file.parent, f"{file.name} names no files of weights")
        parts = [file.parent / name for name in sorted({*names})]
    for part in parts:
        if not part.is_file():
            raise Unreadable(part.parent, f"{part.name} is missing: download it again")
        try:
            with safe_open(part, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            why = f"is not whole: download it again; {' '.join(str(error).split())[:100]}"
            raise Unreadable(part.parent, f"{part.name} {why}") from None


def scheduler_file(folder: Path) -> Path | None:
    """The scheduler_config.json of a network: beside it, or in scheduler/ of the folder that it
    lies in.

    Training scripts of diffusers keep out/checkpoint-500/unet, and the scheduler in out/scheduler.
    """
    folder = folder.absolute()
    above = [folder.parent] if folder.name in FOLDERS else []
    above += [folder.parent.parent] if above and folder.parent.name.startswith("checkpoint") else []
    files = (
        place / name
        for place in (folder, *above)
        for name in ("scheduler_config.json", "scheduler/scheduler_config.json")
    )
    return next((file for file in files if file.is_file()), None)


def schedule_in(file: Path) -> dict:
    """The keys of model.schedule, and of FIXED, as a scheduler of diffusers has them.

    Raises:
        UsageError: its noise is of another kind.
    """
    import diffusers

    config = _json(file)
    name = str(config.get("_class_name", "DDPMScheduler"))
    kind = getattr(diffusers, name, None) if name.endswith("Scheduler") else None
    # older files leave out what is by default
    known = inspect.signature(kind).parameters if kind else {}
    keys = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
    if not known.keys() >= set(keys):
        raise _inexpressible(file, f"a {name}", "DDPMScheduler and its kind")
    if config.get("predict_epsilon") is False:  # as diffusers before 0.11 wrote it
        config.setdefault("prediction_type", "sample")
    given = {key: config.get(key, known[key].default) for key in keys}
    return {
        **given,
        "prediction_type": config.get("prediction_type", "epsilon"),
        **{key: config.get(key, ours) for key, ours in FIXED.items()},
    }


def schedule_problem(folder: Path, schedule: dict) -> str | None:
    """Where the schedule that lies with a network is not model.schedule; None also where none lies
    there.
    """
    file = scheduler_file(folder)
    if file is None:
        return None
    try:
        theirs = schedule_in(file)
        _check_expressible(file, theirs)
    except UsageError as error:
        return error.problems[0]
    other = {key: theirs[key] for key, ours in schedule.items() if not _equal(theirs[key], ours)}
    if not other:
        return None
    given = ", ".join(f"{key}={value}" for key, value in other.items())
    ours = ", ".join(str(schedule[key]) for key in other)
    return (
        f"model.checkpoint={folder}: was trained with {given} ({file}), and model.schedule says"
        f" {ours}. Type "
        + " ".join(f"model.schedule.{key}={value}" for key, value in other.items())
    )


def assumed(path: Path, schedule: dict) -> str | None:
    """The line that says which schedule is taken where nothing lies with the weights."""
    if path.is_dir() and all(scheduler_file(folder) for folder in networks(path).values()):
        return None
    settings = ", ".join(f"{key}={value}" for key, value in schedule.items())
    return (
        f"model.checkpoint={path}: no schedule lies with the weights; assumed is model.schedule:"
        f" {settings}"
    )


def check(path: Path, schedule: dict, weights: str) -> list[str]:
    """Problems of a folder of weights that can be seen without reading them, the first of each
    network.

    Args:
        schedule: model.schedule.
        weights: model.weights, "raw" or "ema".
    """
    try:
        folders = networks(path)
        for folder in folders.values():
            network_config(folder)
            variant(folder)
    except UsageError as error:
        return error.problems
    if weights not in folders:
        return [wrong_label(path, weights, list(folders))]
    problem = schedule_problem(folders[weights], schedule)
    return [problem] if problem else []


def check_shape(path: Path, *, image_size: int, channels: int, num_classes: int) -> list[str]:
    """Networks in a folder that are for other images, or another number of classes; what `check`
    names is not named again.
    """
    keys = ("sample_size", "in_channels", "out_channels", "num_class_embeds")
    wanted = [image_size, channels, channels, num_classes + 1]
    problems = []
    try:
        folders = networks(path).values() if path.is_dir() else ()
        configs = {folder: network_config(folder) for folder in folders}
    except (UsageError, OSError, ValueError):
        return []
    for folder, config in configs.items():
        made_for = [config.get(key) for key in keys]
        if made_for != wanted:
            problems.append(
                f"model.checkpoint={folder}: [sample_size, in_channels, out_channels,"
                f" num_class_embeds] is {made_for}, and must be {wanted} for this data set (one"
                " class embedding more than classes). Type model.checkpoint=null to pretrain here"
            )
    return problems


def has_rows(path: Path, count: int) -> bool:
    """Whether the class table of a folder's networks has so many rows."""
    folders = networks(path).values() if path.is_dir() else ()
    return any(network_config(folder).get("num_class_embeds") == count for folder in folders)


def of_key(line: str, key: str) -> str:
    """A problem of weights that another key names: what to type instead is another folder, since
    nothing can be trained in its place.
    """
    line = line.replace("model.checkpoint=null to pretrain here", f"{key}=FOLDER with another one")
    return line.replace("model.checkpoint", key)


def wrong_label(path: Path, weights: str, labels: list[str]) -> str:
    return (
        f"model.weights={weights}: {path} holds only {' and '.join(labels)} weights. "
        f"Type model.weights={labels[0]}"
    )


def _check_expressible(file: Path, theirs: dict) -> None:
    allowed = {
        "beta_schedule": BETA_SCHEDULES,
        "prediction_type": PREDICTIONS,
        **{key: (value,) for key, value in FIXED.items()},
    }
    for key, values in allowed.items():
        if theirs[key] not in values:
            raise _inexpressible(file, f"{key}={theirs[key]}", ", ".join(map(str, values)))
    timesteps = theirs["num_train_timesteps"]
    if not isinstance(timesteps, int) or timesteps > MAX_TIMESTEPS:
        raise _inexpressible(file, f"num_train_timesteps={timesteps}", f"up to {MAX_TIMESTEPS}")


def _inexpressible(file: Path, what: str, allowed: str) -> UsageError:
    folder = file.parent.parent if file.parent.name == "scheduler" else file.parent
    return UsageError(
        f"model.checkpoint={folder}: was trained with {what} ({file}), which model.schedule can not"
        f" express; allowed: {allowed}. Type model.checkpoint=null to pretrain here"
    )


def _equal(a: object, b: object) -> bool:
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-6)
    return a == b


def _json(file: Path) -> dict:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise Unreadable(file.parent, f"{file.name}: {why}") from None
    if not isinstance(content, dict):
        raise Unreadable(file.parent, f"{file.name} holds no object")
    return content
