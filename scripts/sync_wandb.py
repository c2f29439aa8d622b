"""Send what was written offline to Weights & Biases: every run below an outputs folder that is not
there yet.

Before it sends, it writes a run for each finished cell that has none and one with the table of all
cells.
"""

import argparse
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from unrelearn import hosted, launch, progress, tracking
from unrelearn.advice import command
from unrelearn.paths import given
from unrelearn.report.records import read_record

EXAMPLES = """
examples:
  wandb login                                         once a machine
  python scripts/sync_wandb.py                        everything below outputs
  python scripts/sync_wandb.py outputs/digits --workspace
  python scripts/sync_wandb.py --specification view.json      the workspace as JSON; nothing is sent
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = launch.parser(__doc__, EXAMPLES)
    parser.add_argument(
        "folder",
        nargs="?",
        type=given,
        default=Path("outputs"),
        metavar="FOLDER",
        help="an outputs folder (default: outputs)",
    )
    parser.add_argument(
        "--no-results",
        action="store_true",
        help="send what is there; write no run for cells and their table",
    )
    parser.add_argument(
        "--online",
        action="store_true",
        help="also runs that were online, of which parts may be missing",
    )
    parser.add_argument(
        "--seconds", type=float, default=300, help="longest wait for one run (default: 300)"
    )
    parser.add_argument("--parallel", type=int, default=4, help="runs sent at a time (default: 4)")
    parser.add_argument(
        "--workspace",
        action="store_true",
        help="also save the workspace of docs/wandb.md in the project",
    )
    parser.add_argument(
        "--project", default="unrelearn", help="whose workspace (default: unrelearn)"
    )
    parser.add_argument(
        "--specification", type=given, metavar="FILE", help="only write that workspace as JSON"
    )
    return parser.parse_args(arguments)


def axes() -> dict[str, str]:
    """Stage -> what its curves are drawn over."""
    from unrelearn.stage import kinds
    from unrelearn.tracks import classification, diffusion  # noqa: F401 - whose stages are known then

    return {kind.name: kind.axis for kind in kinds() if kind.axis}


def write_results(outputs: Path) -> None:
    """A run for each cell without one, whatever its own tracking was, and the table of all
    cells.
    """
    records = []
    for path in sorted((outputs / "runs").glob("*/result.json")):
        try:
            records.append(read_record(path))
        except ValueError as error:
            print(f"left out: {path}: {error}", file=sys.stderr)
        else:
            records[-1]["config"]["tracking"] |= {"backend": "wandb", "mode": "offline"}
    with progress.bar("write the finished cells", len(records)) as advance:
        for record in records:
            tracking.result(record, outputs)
            advance()
    if records:
        tracking.grid(records, outputs, records[0]["config"]["tracking"])


def unsent(folder: Path, online: bool) -> list[list[Path]]:
    """Run folders that are not sent yet; those of one run together, the oldest first, as a resumed
    run has several.
    """
    folders = defaultdict(list)
    for path in sorted(folder.rglob("*run-*/run-*.wandb")):
        run = path.parent
        if run.is_symlink() or not (online or run.name.startswith("offline-")) or hosted.sent(run):
            continue
        folders[run.parent, path.stem].append(run)
    return list(folders.values())


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.specification or options.workspace:
        try:
            hosted.workspace("me", options.project, axes())
        except ModuleNotFoundError as error:
            print(f"error: {error}. Type pip install -e .[wandb]", file=sys.stderr)
            return 2
    if options.specification:
        options.specification.write_text(
            hosted.specification(hosted.workspace("me", options.project, axes()))
        )
        print(options.specification)
        return 0
    if not options.folder.is_dir():
        print(
            f"error: {options.folder}: no such folder. Type python scripts/sync_wandb.py FOLDER",
            file=sys.stderr,
        )
        return 2
    if not options.no_results:
        for runs in sorted(options.folder.rglob("runs")):
            write_results(runs.parent)
    try:
        entity = hosted.account()
    except Exception as error:
        why = " ".join(str(error).split())[:300].rstrip(".")
        print(
            f"error: W&B: {why}. Nothing was sent. Type wandb login, or set WANDB_API_KEY, and try"
            " again",
            file=sys.stderr,
        )
        return 2
    folders, failed = unsent(options.folder, options.online), {}
    with (
        progress.bar("send", len(folders)) as advance,
        ThreadPoolExecutor(options.parallel) as pool,
    ):
        sending = {pool.submit(hosted.send, parts, options.seconds): parts for parts in folders}
        for done in as_completed(sending):
            if done.result() is not None:
                failed[sending[done][0]] = done.result()
            advance(note=f"{len(failed)} failed" if failed else "")
    for folder, why in failed.items():
        print(f"failed: {folder}: {why}", file=sys.stderr)
    print(f"{len(folders) - len(failed)} runs sent, {len(failed)} failed")
    if failed:
        print(
            f"Type {command([str(options.folder)], 'scripts/sync_wandb.py')} again: it sends only"
            " what is missing",
            file=sys.stderr,
        )
    if options.workspace:
        view = hosted.workspace(entity, options.project, axes())
        view.save()
        print(view.url)
    return 1 if failed else 0


if __name__ == "__main__":
    launch.script(main)
