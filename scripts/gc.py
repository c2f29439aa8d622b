"""Remove artefacts that no kept result needs; without --yes only say which, and how much that would
free.

    python scripts/gc.py [outputs] [--hours 24] [--yes]

Kept is what the records in outputs/runs name, what the grids begun with scripts/grid.py consist of,
and everything that these were made from; what is younger than a day stays as well. To let go of a
run or a grid, remove its folder in outputs/runs or outputs/grids first.
"""

import json
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from unrelearn import launch
from unrelearn.artifact import MANIFEST
from unrelearn.errors import UsageError
from unrelearn.grid.plan import Plan
from unrelearn.paths import given
from unrelearn.stage import kinds

EXAMPLES = 5  # folders of each stage that are named


def read(path: Path, key: str) -> dict:
    """A record, or the note of a grid: a mapping that has `key`.

    Raises:
        UsageError: it can not be read.
    """
    try:
        holds = json.loads(path.read_text())
        if isinstance(holds.get(key), list):
            return holds
        why = f"without {key}"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        why = type(error).__name__
    raise UsageError(
        f"{path}: can not be read ({why}), so what it needs is unknown. "
        "Repair or remove that folder, then type the same command"
    )


def named_by_results(outputs: Path) -> set[str]:
    """stage/key of every artefact that a record or a grid names.

    Raises:
        UsageError: a record or a grid can not be read, so that nobody knows what it needs.
    """
    named: set[str] = set()
    for path in sorted((outputs / "runs").glob("*/result.json")):
        named |= {f"{stage['stage']}/{stage['key']}" for stage in read(path, "stages")["stages"]}
    for path in sorted((outputs / "grids").glob("*/grid.json")):
        note = read(path, "words")
        try:  # an older note does not name them
            named.update(note.get("parts") or Plan.of(note["words"], reading=True).parts)
        except UsageError as error:
            why = "this grid can no longer be composed, so what it needs is unknown"
            line = f"{path}: {why}. Remove that folder to let go of it"
            raise UsageError([line, *error.problems]) from error
    return named


def with_ancestors(named: Iterable[str], there: dict[str, Path]) -> set[str]:
    """The names, and those of everything that they were made from."""
    by_key = {name.partition("/")[2]: name for name in there}
    ancestors, new = set(), set(named)
    while new:
        ancestors |= new
        parents = set()
        for name in new & there.keys():
            try:
                manifest = json.loads((there[name] / MANIFEST).read_text())
            except (OSError, ValueError):
                continue  # a damaged one has no parents that anybody could tell
            parents |= {by_key[key] for key in manifest["parents"] if key in by_key}
        new = parents - ancestors
    return ancestors


def artifacts(root: Path) -> tuple[dict[str, Path], list[Path]]:
    """(stage/key -> finished artefact, folders that damage or a removal that broke off has
    left).
    """
    there, rubbish = {}, []
    for stage in filter(Path.is_dir, root.iterdir() if root.exists() else ()):
        with os.scandir(stage) as entries:
            for entry in entries:
                if entry.is_dir():
                    if ".damaged-" in entry.name or entry.name.endswith(".removed"):
                        rubbish.append(Path(entry.path))
                    elif not entry.name.endswith(".partial"):
                        there[f"{stage.name}/{entry.name}"] = Path(entry.path)
    return there, rubbish


def freed(folders: Iterable[Path]) -> int:
    """Bytes that go with them; a file that has another name elsewhere stays."""
    walked = (step for folder in folders for step in os.walk(folder))
    stats = [os.stat(os.path.join(path, name)) for path, _, names in walked for name in names]
    links = Counter((stat.st_dev, stat.st_ino) for stat in stats)
    once = {(stat.st_dev, stat.st_ino): stat for stat in stats}
    return sum(stat.st_size for file, stat in once.items() if links[file] == stat.st_nlink)


def remove(path: Path) -> None:
    """Remove a folder at once for whoever looks."""
    aside = path.with_name(f"{path.name}.{time.time_ns()}.removed")
    path.rename(aside)
    shutil.rmtree(aside)


def check_quiet(root: Path) -> None:
    """
    Raises:
        UsageError: something is being computed, which may need what no result needs yet.
    """
    for lock in root.glob("*/*.lock"):
        try:
            with FileLock(lock, timeout=0):
                pass
        except Timeout as error:
            raise UsageError(
                f"{lock.with_suffix('')}: is being computed. Wait until nothing runs in this"
                " folder, then type the same command again"
            ) from error


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("outputs", nargs="?", type=given, default=Path("outputs"))
    parser.add_argument("--yes", action="store_true", help="remove them")
    parser.add_argument(
        "--hours",
        type=float,
        default=24,
        help="leave what is younger, as a run may be about to use it (default: 24)",
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.hours < float("inf"):
        return launch.complain([f"--hours={options.hours:g}: must be 0 or more. Type --hours 24"])
    there, rubbish = artifacts(options.outputs / "artifacts")
    try:
        if not there and not rubbish:
            raise UsageError(
                f"{options.outputs}: holds no artefacts. Type python scripts/gc.py FOLDER, where"
                " your runs are"
            )
        kept = with_ancestors(named_by_results(options.outputs), there)
    except UsageError as error:
        return launch.complain(error.problems)
    trained = {kind.name for kind in kinds() if kind.trains}
    parts = [name.partition("/") for name in kept]
    models = {key for stage, _, key in parts if stage in trained}
    oldest = time.time() - 3600 * options.hours
    unneeded = {
        name: path
        for name, path in there.items()
        if name not in kept and path.stat().st_mtime <= oldest and not _beside(path, name, models)
    }
    by_stage: dict[str, list[Path]] = defaultdict(list)
    for name, path in unneeded.items():
        by_stage[name.partition("/")[0]].append(path)
    by_stage["damaged, or half removed"] = rubbish
    total = freed(path for paths in by_stage.values() for path in paths)
    for stage, paths in sorted(by_stage.items()):
        if paths:
            examples = ", ".join(path.name for path in paths[:EXAMPLES])
            examples += ", ..." * (len(paths) > EXAMPLES)
            print(
                f"{stage}: {len(paths)} of"
                f" {sum(name.startswith(f'{stage}/') for name in there) or len(paths)},"
                f" {freed(paths) / 2**20:,.1f} MiB: {examples}"
            )
    print(
        f"{len(unneeded) + len(rubbish)} folders, {total / 2**20:,.1f} MiB, are needed by no result"
        f" in {options.outputs}"
    )
    if options.yes:
        try:
            check_quiet(options.outputs / "artifacts")
        except UsageError as error:
            return launch.complain(error.problems)
        for path in [*unneeded.values(), *rubbish]:
            remove(path)
        print(f"removed {len(unneeded) + len(rubbish)}")
    elif unneeded or rubbish:
        print("Nothing was removed. Type the same command with --yes to remove them")
    return 0


def _beside(path: Path, name: str, models: set[str]) -> bool:
    """Whether it was computed of a model that is kept: samples, or what a method works with, such
    as a Fisher information.
    """
    if name.partition("/")[0] not in {kind.name for kind in kinds() if kind.beside}:
        return False
    try:
        return bool(models & set(json.loads((path / MANIFEST).read_text())["parents"]))
    except (OSError, ValueError, KeyError):
        return False


if __name__ == "__main__":
    sys.exit(main())
