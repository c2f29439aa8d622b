"""Numbers and paths: what can not be used whatever its key, and whose path a file lies below."""

import os
from pathlib import Path
from typing import Any

from unrelearn.advice import shown, typed

PATHS = (  # noqa: SIM905
    "paths.outputs paths.data paths.inception_weights model.checkpoint method.checkpoint"
    " dataset.root attack.proxy.root"
).split()
# whole numbers beyond it are no longer told apart as floats, and nothing here counts so far
LARGEST = 2**53


def not_finite(value: object) -> str | None:
    """Why a number can not be used whatever its key; None if it can, or if it is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value != value:
        return "must be a number"
    if isinstance(value, float):
        return None if abs(value) != float("inf") else "must be finite"
    return None if abs(value) <= LARGEST else f"must be at most {LARGEST} in size"


def at(cfg: object, key: str) -> Any:
    """The value of a dotted key of a configuration, typed or not; None if there is none."""
    node = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else getattr(node, name, None)
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


def owner(path: str | os.PathLike | None, cfg: object) -> str | None:
    """The key of the configuration below whose path a file lies; the innermost, if several do."""
    if path is None or cfg is None or isinstance(path, int):
        return None
    file, owners = Path(os.path.abspath(os.fsdecode(path))), []
    for key in PATHS:
        value = at(cfg, key)
        if isinstance(value, str) and file.is_relative_to(
            folder := Path(os.path.abspath(place(value)))
        ):
            owners.append((len(folder.parts), -PATHS.index(key), key))
    return max(owners)[-1] if owners else None
