"""Rules of a configuration, each a function of the resolved configuration that returns problems,
one line each.

`config.validate` runs them, each only where the values that it reads have passed the checks of
types and ranges.
"""

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unrelearn.advice import shown, typed

PATHS = (
    "paths.outputs",
    "paths.data",
    "paths.inception_weights",
    "model.checkpoint",
    "dataset.root",
    "attack.proxy.root",
)
LARGEST = (
    2**53
)  # whole numbers beyond it are no longer told apart as floats, and nothing here counts so far


def not_finite(value: object) -> str | None:
    """Why a number can not be used whatever its key; None if it can, or if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value != value:
        return "must be a number"
    if isinstance(value, float):
        return None if abs(value) != float("inf") else "must be finite"
    return None if abs(value) <= LARGEST else f"must be at most {LARGEST} in size"


def at(cfg: dict | None, key: str) -> Any:
    """The value of a dotted key; None if there is none."""
    node: object = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def place(value: str) -> str:
    """A path as it is meant: ~ is the home folder."""
    return os.path.expanduser(value)


def expand_paths(cfg: dict) -> list[str]:
    """Put the home folder for ~ in every path of the configuration; problems of paths that no file
    can have.
    """
    problems = []
    for key in PATHS:
        value = at(cfg, key)
        if not isinstance(value, str):
            continue
        *parents, name = key.split(".")
        expanded = at(cfg, ".".join(parents))[name] = place(value)
        if expanded.startswith("~"):
            problems.append(
                f"{key}={shown(value)}: there is no such user. Type {typed({key: './' + value})}"
                " for a folder of this name"
            )
            continue
        try:
            os.stat(expanded)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # for whoever reads or writes it to say
        except (
            OSError,
            ValueError,
        ) as error:  # too long, a loop of links, a character that no file has
            why = getattr(error, "strerror", None) or str(error)
            problems.append(
                f"{key}={shown(value)[:80]}: can not be a path ({why}). Type {key}=FOLDER"
            )
    return problems


def owner(path: str | os.PathLike | None, cfg: dict | None) -> str | None:
    """The key of the configuration below whose path a file lies; the innermost, if several do."""
    if path is None or cfg is None or isinstance(path, int):
        return None
    file, found = Path(os.path.abspath(os.fsdecode(path))), []
    for key in PATHS:
        value = at(cfg, key)
        if isinstance(value, str) and file.is_relative_to(
            folder := Path(os.path.abspath(place(value)))
        ):
            found.append((len(folder.parts), -PATHS.index(key), key))
    return max(found)[-1] if found else None


def network(cfg: dict) -> list[str]:
    """Widths, groups and attention of the UNet."""
    unet, problems = cfg["model"]["unet"], []
    widths, groups = unet["block_out_channels"], unet["norm_num_groups"]
    if not widths or any(width < 1 or width % groups for width in widths):
        fits = next(
            (
                n
                for n in (32, 16, 8, 4, 2, 1)
                if widths and min(widths) > 0 and not any(w % n for w in widths)
            ),
            None,
        )
        advice = (
            {"model.unet.norm_num_groups": fits}
            if fits
            else {"model.unet.block_out_channels": [4 * groups, 8 * groups]}
        )
        problems.append(
            f"model.unet.block_out_channels={widths}: each width must be a positive multiple of "
            f"model.unet.norm_num_groups={groups}. Type {typed(advice)}"
        )
    if any(level not in range(len(widths)) for level in unet["attention_levels"]):
        problems.append(
            f"model.unet.attention_levels={unet['attention_levels']}: must be levels from 0 to "
            f"{len(widths) - 1}. Type {typed({'model.unet.attention_levels': []})}"
        )
    if len(widths) > 8 or max(widths, default=0) > 65536:
        problems.append(
            f"model.unet.block_out_channels={widths}: must be at most 8 widths, none above 65536. "
            f"Type {typed({'model.unet.block_out_channels': [32, 64]})}"
        )
    head = unet["attention_head_dim"]
    attending = [width for level, width in enumerate(widths) if level in unet["attention_levels"]]
    if head is not None and attending and head > min(attending):
        problems.append(
            f"model.unet.attention_head_dim={head}: must be at most the widths with attention,"
            f" {attending}. Type model.unet.attention_head_dim=null"
        )
    return problems


def betas(cfg: dict) -> list[str]:
    schedule = cfg["model"]["schedule"]
    if schedule["beta_start"] < schedule["beta_end"]:
        return []
    return [
        f"model.schedule.beta_start={schedule['beta_start']}: must be below"
        f" model.schedule.beta_end={schedule['beta_end']}, as noise grows with time. Type"
        " model.schedule.beta_start=1e-4 model.schedule.beta_end=0.02"
    ]


def scales(cfg: dict) -> list[str]:
    return [
        f"sampler.{key}={cfg['sampler'][key]}: must be numbers from 0 up. Type"
        f" {typed({f'sampler.{key}': [1.0]})}"
        for key in ("guidance_scales", "retain_guidance_scales")
        if not cfg["sampler"][key] or any(scale < 0 for scale in cfg["sampler"][key])
    ]


def denoising_steps(cfg: dict) -> list[str]:
    steps, times = (
        cfg["sampler"]["num_inference_steps"],
        cfg["model"]["schedule"]["num_train_timesteps"],
    )
    return (
        [
            f"sampler.num_inference_steps={steps}: must be at most"
            f" model.schedule.num_train_timesteps={times}. Type sampler.num_inference_steps={times}"
        ]
        if steps > times
        else []
    )


def logging(cfg: dict) -> list[str]:
    every, logs = (cfg["trainer"][f"{name}_every_n_steps"] for name in ("checkpoint", "log"))
    return (
        [
            f"trainer.checkpoint_every_n_steps={every}: must be a multiple of"
            f" trainer.log_every_n_steps={logs}. Type trainer.log_every_n_steps=1"
        ]
        if every % logs
        else []
    )


def budgets(cfg: dict) -> list[str]:
    value = cfg["attack"].get("budgets")
    if not isinstance(value, list):
        return []
    whole = value and all(isinstance(b, int) and not isinstance(b, bool) and b >= 0 for b in value)
    if whole and value[-1] > 0 and all(a < b for a, b in itertools.pairwise(value)):
        return []
    return [
        f"attack.budgets={value}: must be increasing numbers of steps, none negative, the last"
        f" above 0. Type {typed({'attack.budgets': [0, 25, 50, 100, 200, 400]})}"
    ]


def plateau(cfg: dict) -> list[str]:
    steps, logs = cfg["method"].get("plateau_steps"), cfg["trainer"]["log_every_n_steps"]
    stops = isinstance(steps, int) and cfg["method"].get("plateau_tolerance") is not None
    return (
        [
            f"method.plateau_steps={steps}: must be a multiple of trainer.log_every_n_steps={logs}."
            " Type trainer.log_every_n_steps=1"
        ]
        if stops and steps % logs
        else []
    )


def tracking(cfg: dict) -> list[str]:
    """What W&B would refuse when hours are under way.

    It takes tags of 1 to 64 characters, names of 1 to 128, and none of / \\ # ? % : in the name of
    a project (wandb/sdk/wandb_settings.py, validate_run_tags and validate_project).
    """
    settings, problems = cfg["tracking"], []
    if settings["backend"] != "wandb" or settings["mode"] == "disabled":
        return []
    for tag in settings["tags"]:
        if not 1 <= len(tag) <= 64:
            shorter = [t[:64] for t in settings["tags"] if t]
            problems.append(
                f"tracking.tags: {shown(tag)!r} has {len(tag)} characters, and W&B takes 1 to 64. "
                f"Type {typed({'tracking.tags': shorter})}"
            )
    project, group = settings["project"], settings["group"]
    if odd := sorted(set(project) & set("/\\#?%:")):
        kept = "".join("-" if letter in odd else letter for letter in project)
        problems.append(
            f"tracking.project={shown(project)}: W&B takes no {' '.join(odd)} in the name of a"
            f" project. Type {typed({'tracking.project': kept[:128]})}"
        )
    for key, name in (("project", project), ("group", group)):
        if name is not None and not 1 <= len(name) <= 128:
            problems.append(
                f"tracking.{key}={shown(name)[:80]}: has {len(name)} characters, and W&B takes 1 to"
                f" 128. Type {typed({f'tracking.{key}': name[:128] or 'unrelearn'})}"
            )
    return problems


# a rule, and the beginnings of the keys that it reads: where one of them has a problem already, it
# is left out
RULES: tuple[tuple[Callable[[dict], list[str]], tuple[str, ...]], ...] = (
    (network, ("model.unet.",)),
    (betas, ("model.schedule.beta",)),
    (scales, ("sampler.guidance", "sampler.retain_guidance")),
    (denoising_steps, ("sampler.num_inference_steps", "model.schedule.num_train_timesteps")),
    (logging, ("trainer.checkpoint_every", "trainer.log_every")),
    (budgets, ("attack.budgets",)),
    (plateau, ("method.plateau", "trainer.log_every")),
    (tracking, ("tracking.",)),
)
