"""Which code made a result: the commit, and the source of what is not part of it."""

import contextlib
import hashlib
import inspect
import subprocess
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE = Path(__file__).resolve().parent


def git(*words: str) -> str | None:
    """What git prints for the package's folder; None where it is not there, or refuses."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["git", *words],
            cwd=PACKAGE,
            timeout=120,
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="surrogateescape",
        ).stdout
    return None


@cache
def top() -> Path | None:
    """The checkout that holds the package; None if it was installed, even if it lies in somebody
    else's repository.
    """
    if not git("ls-files", "--error-unmatch", "source.py"):
        return None
    return Path((git("rev-parse", "--show-toplevel") or "").strip())


@cache
def uncommitted() -> frozenset[Path]:
    """Files of the package that differ from HEAD, or that git does not know."""
    root = top()
    if root is None:
        return frozenset()
    shown = (
        git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", ".") or ""
    )
    return frozenset((root / line[3:]).resolve() for line in shown.split("\0") if line)


@cache
def commit() -> str | None:
    """``efec98400000``, or with the start of its sha256 if there is a diff:
    ``efec98400000-dirty-0a1b2c3d4e5f``.
    """
    if top() is None:
        return None
    name, diff = git("describe", "--always", "--abbrev=12"), git("diff", "HEAD")
    if not name or not diff:
        return name and name.strip()
    digest = hashlib.sha256(diff.encode(errors="surrogateescape")).hexdigest()
    return f"{name.strip()}-dirty-{digest[:12]}"


def source_of(target: object) -> str | None:
    """The sha256 of the file of a class or function, and of those in its folder that it makes use
    of, if not committed.

    None if all of them are files of the package that stand as in HEAD, or of an installed package:
    these are covered by the version of their stage.
    """
    new = [
        path for path in files_of(target) if PACKAGE not in path.parents or path in uncommitted()
    ]
    return (
        hashlib.sha256(b"\0".join(path.read_bytes() for path in new)).hexdigest() if new else None
    )


def for_keys(targets: dict[str, Any]) -> dict[str, Any]:
    """`source_of` each, by its name, of those that have one."""
    digests = {name: source_of(target) for name, target in targets.items()}
    new = {name: digest for name, digest in digests.items() if digest}
    return {"source": new} if new else {}


@cache
def files_of(target: object) -> list[Path]:
    """The file of a class or function, and those of its folder whose names that file makes use of;
    none of what is built in.
    """
    paths: dict[Path, ModuleType | None] = {}
    targets: list[Any] = [target]
    while targets:
        path, module = _file(targets[0]), inspect.getmodule(targets.pop(0))
        if path and path not in paths and (not paths or path.parent == next(iter(paths)).parent):
            paths[path] = module
            used = vars(module).values() if module else ()
            targets += [each for each in used if inspect.ismodule(each) or callable(each)]
    return sorted(paths)


def _file(target: Any) -> Path | None:
    with contextlib.suppress(TypeError):  # built in
        path = Path(inspect.getsourcefile(target) or "").resolve()
        return path if path.is_file() else None
    return None
