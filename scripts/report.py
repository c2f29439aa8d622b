"""Compare finished runs from their result.json files: leaderboard, matrices, recovery curves, a
page for each method.
"""

import argparse
import logging
import sys
from pathlib import Path

from unrelearn import launch
from unrelearn.paths import given
from unrelearn.report import board, leaderboard, matrix, site, write_atomically
from unrelearn.report.compare import RENDERERS, recovery_figures, tables, troubles
from unrelearn.report.figures import save
from unrelearn.report.groups import collect, comparison, versions_line

EXAMPLES = """
examples:
  python scripts/report.py                                    everything under outputs/runs
  python scripts/report.py outputs/runs/digits-* --out tables only these runs
  python scripts/report.py outputs/runs /mnt/theirs/runs
      merged with what somebody else computed
  python scripts/report.py --figures                          also the figures as PDF and PNG
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "results",
        nargs="*",
        type=given,
        default=[Path("outputs/runs")],
        metavar="RESULTS",
        help="folders to search for result.json, or such files (default: outputs/runs)",
    )
    parser.add_argument(
        "--out",
        type=given,
        default=Path("outputs/report/compare"),
        metavar="FOLDER",
        help=(
            "where to write index.html with its pages, leaderboard and table as .md, .csv and .tex"
            " (table.md: six columns of the leaderboard), differences.csv, and matrix.md and"
            " matrix.csv where there are at least two attacks, none included (default:"
            " outputs/report/compare)"
        ),
    )
    parser.add_argument("--figures", action="store_true", help="also the figures as PDF and PNG")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    logging.basicConfig(format="%(levelname)s: %(message)s")
    for path in options.results:
        if not path.exists():
            print(
                f"{path} does not exist; run `python run.py` first, or name a folder of runs: "
                "python scripts/report.py FOLDER",
                file=sys.stderr,
            )
            return 2
    records = collect(options.results)
    groups = comparison(records)
    if not groups:
        print(
            f"no result.json below {', '.join(map(str, options.results))}; run `python run.py`"
            " first, or name a folder of runs: python scripts/report.py FOLDER",
            file=sys.stderr,
        )
        return 2
    matrices, boards = matrix.matrices(groups), board.boards(groups)
    texts = {name: render(boards) for name, render in leaderboard.RENDERERS.items()}
    texts |= {name: render(groups) for name, render in RENDERERS.items()}
    if matrices:
        texts |= {name: render(matrices) for name, render in matrix.RENDERERS.items()}
    texts |= site.pages(groups, boards, matrix.to_html(matrices), options.out, list(texts))
    for name, text in texts.items():
        write_atomically(options.out / name, text)
    written = [options.out / name for name in texts]
    if options.figures:
        written += save_figures(groups, boards, matrices, options.out)
    leaderboard.show(boards)
    matrix.show(matrices)
    print(versions_line(records))
    for line in troubles(groups):
        print(line)
    for path in written:
        print(path)
    return 0


def save_figures(groups: list, boards: list, matrices: list, folder: Path) -> list[Path]:
    """Recovery over retrain first, then the recovery curves, matrices and trade-offs of every
    table, as PDF and PNG.
    """
    drawings = {
        "recovery-over-retrain": [
            drawing for each in boards for drawing in leaderboard.scatters(each)
        ]
    }
    drawings |= {
        "recovery": [
            drawing for members in tables(groups).values() for drawing in recovery_figures(members)
        ]
    }
    drawings |= {
        name: [drawing for each in matrices for drawing in draw(each)]
        for name, draw in matrix.DRAWINGS.items()
    }
    paths = []
    for name, drawn in drawings.items():
        for index, (_, drawing) in enumerate(drawn, start=1):
            for kind in ("pdf", "png"):
                paths.append(folder / f"{name}-{index}.{kind}")
                save(drawing, paths[-1])
    return paths


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(launch.complain(launch.storage_problems(error) or [str(error)]))
