"""Compare finished runs from their result.json files: leaderboard, matrices, recovery curves, a
page for each method.
"""

import argparse
import itertools
import logging
import sys
from pathlib import Path

from unrelearn import launch
from unrelearn.paths import given
from unrelearn.report import (
    audit,
    classification,
    comparison,
    leaderboard,
    matrix,
    nearby,
    published,
    published_page,
    worlds,
)
from unrelearn.report.classified import is_classifier
from unrelearn.report.drawing import save
from unrelearn.report.files import frame_csv, write_atomically
from unrelearn.report.gallery import galleries
from unrelearn.report.panel import panels
from unrelearn.report.pivot import put_into
from unrelearn.report.published import is_published
from unrelearn.report.records import Record, collect, troubles, versions_line
from unrelearn.report.render import markdown_table
from unrelearn.report.site import Site
from unrelearn.report.table import Results, results

EXAMPLES = """
examples:
  python scripts/report.py                                    everything under outputs/runs
  python scripts/report.py outputs/runs/digits-* --out tables only these runs
  python scripts/report.py outputs/runs /mnt/theirs/runs
      merged with what somebody else computed
  python scripts/report.py --figures                          also the figures as PDF and PNG
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = launch.parser(__doc__, EXAMPLES)
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
            " (table.md: six columns of the leaderboard, board.md: the first of them),"
            " comparison.md, differences.csv, results.csv (all that was measured, one line each:"
            " docs/read-results.md), and"
            " matrix.md and matrix.csv where there are at least two attacks, none included;"
            " nearby.md of forgotten words, audit.html of weights from elsewhere (default:"
            " outputs/report/compare)"
        ),
    )
    parser.add_argument(
        "--into",
        type=given,
        metavar="PAGE",
        help="put each .md file between the lines <!-- FILE --> and <!-- end --> of a page",
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
    if not records:
        print(
            f"no result.json below {', '.join(map(str, options.results))}; run `python run.py`"
            " first, or name a folder of runs: python scripts/report.py FOLDER",
            file=sys.stderr,
        )
        return 2
    classifiers = [record for record in records if is_classifier(record)]
    tables = [record for record in records if is_published(record)]
    denoisers = [r for r in records if not is_classifier(r) and not is_published(r)]
    written = []
    if denoisers:
        compared = results(denoisers)
        written += write(compared, options.out)
        if options.figures:
            written += save_figures(compared, options.out)
        leaderboard.show(panels(compared))
        matrix.show(matrix.matrices(compared))
    if classifiers:
        written += write_classifiers(results(classifiers), options, alone=not denoisers)
    written += write_published(tables, options.out, figures=options.figures)
    if options.into:
        try:
            fill(options.into, [path for path in written if path.suffix == ".md"])
        except ValueError as error:
            return launch.complain([str(error)])
    print(versions_line(records))
    for line in troubles(records):
        print(line)
    for path in written:
        print(path)
    return 0


def fill(page: Path, tables: list[Path]) -> None:
    """Those for which the page has marked lines, which is at least one."""
    text = page.read_text(encoding="utf-8")
    marked = [table for table in tables if f"<!-- {table.name} -->" in text]
    if not marked:
        names = " or ".join(table.name for table in tables)
        raise ValueError(f"--into: {page} has no line <!-- FILE -->. Add one of {names}")
    for table in marked:
        text = put_into(text, table.name, table.read_text(encoding="utf-8"))
    write_atomically(page, text)


def write_published(records: list[Record], folder: Path, *, figures: bool = False) -> list[Path]:
    """The table of each record of published tables, as it was printed, and its pictures."""
    paths = []
    for record in records:
        name = f"{record['dataset']}-{record['name'][-8:]}"
        text = f"{markdown_table(*published.cells(record))}\n\n{published.table_caption(record)}\n"
        if worlds.audits(record):
            text += f"\n{markdown_table(*worlds.cells(record))}\n\n{worlds.table_caption(record)}\n"
        paths.append(folder / f"{name}.md")
        write_atomically(paths[-1], text)
        outputs = Path(record["path"]).parents[2]
        drawn = published_page.figures(record, outputs) if figures else {}
        for (what, drawing), kind in itertools.product(drawn.items(), ("pdf", "png")):
            paths.append(folder / f"{name}-{what}.{kind}")
            save(drawing, paths[-1])
    return paths


def write(results: Results, folder: Path) -> list[Path]:
    """Tables as text, and the pages."""
    boards, matrices = panels(results), matrix.matrices(results)
    texts = {name: render(boards) for name, render in leaderboard.RENDERERS.items()}
    texts |= {name: render(results) for name, render in comparison.RENDERERS.items()}
    texts["results.csv"] = frame_csv(results.tidy)
    if near := nearby.to_markdown(boards):
        texts["nearby.md"] = near
    if matrices:
        texts |= {name: render(matrices) for name, render in matrix.RENDERERS.items()}
    paths = put(folder, texts)  # a page that fails costs no table
    paths += put(folder, Site(results, folder, list(texts)).pages)
    if audit.audits(results.records):
        paths += put(folder, {"audit.html": audit.audit_page(results.records, folder)})
    return paths


def put(folder: Path, texts: dict[str, str]) -> list[Path]:
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]


def write_classifiers(results: Results, options: argparse.Namespace, *, alone: bool) -> list[Path]:
    """Tables, page and figures of classifiers; index.html is theirs if there is nothing else."""
    folder, boards = options.out, classification.boards(results)
    texts = {name: render(boards) for name, render in classification.RENDERERS.items()}
    texts["results-classification.csv"] = frame_csv(results.tidy)
    paths = put(folder, texts)
    name = "index.html" if alone else "classification.html"
    paths += put(folder, {name: classification.front(results, boards, list(texts))})
    drawn = [each for board in boards for each in classification.figures(results, board)]
    for index, (_, drawing) in enumerate(drawn if options.figures else [], start=1):
        for kind in ("pdf", "png"):
            paths.append(folder / f"classification-{index}.{kind}")
            save(drawing, paths[-1])
    classification.show(boards)
    return paths


def save_figures(results: Results, folder: Path) -> list[Path]:
    """Recovery over retrain first, then samples where they are on this disk, recovery curves,
    matrices and trade-offs of every table, as PDF and PNG.
    """
    drawings = {"recovery-over-retrain": [leaderboard.scatters(each) for each in panels(results)]}
    drawings["samples"] = [galleries(each) for each in panels(results)]
    tables = results.tables.values()
    drawings["recovery"] = [comparison.recovery_figures(results, members) for members in tables]
    for name, draw in matrix.DRAWINGS.items():
        drawings[name] = [draw(each) for each in matrix.matrices(results)]
    paths = []
    for name, lists in drawings.items():
        for index, (_, drawing) in enumerate(itertools.chain(*lists), start=1):
            for kind in ("pdf", "png"):
                paths.append(folder / f"{name}-{index}.{kind}")
                save(drawing, paths[-1])
    return paths


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OSError as error:
        sys.exit(launch.complain(launch.storage_problems(error) or [str(error)]))
