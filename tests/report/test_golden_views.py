"""Every number of every view, to the last printed digit, for made-up records and for real ones.

After a change that is meant to move numbers: python tests/report/test_golden_views.py writes them.
"""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import many

from unrelearn.report import comparison, leaderboard, matrix, pivot
from unrelearn.report.panel import panels
from unrelearn.report.records import collect
from unrelearn.report.table import Results, results

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "report"
KEYS = ("forget", "attack.learning_rate", "method.learning_rate", "method.factor")
RECORDS: dict[str, Callable[[], list[dict]]] = {
    "made_up": many,
    "cifar10": lambda: collect(
        sorted((ROOT / "tests" / "golden" / "cifar10_records").glob("*.json"))
    ),
}


def views(records: list[dict]) -> dict[str, str]:
    made = results(records)
    texts = {name: render(panels(made)) for name, render in leaderboard.RENDERERS.items()}
    texts |= {name: render(made) for name, render in comparison.RENDERERS.items()}
    texts |= {name: render(matrix.matrices(made)) for name, render in matrix.RENDERERS.items()}
    texts["comparison.md"] = comparison.to_markdown(made)
    for key in KEYS:
        texts[f"pivot-{key}.md"] = pivoted(made, key)
    return texts


def pivoted(made: Results, key: str) -> str:
    try:
        return pivot.to_markdown(made, key)
    except ValueError as error:
        return f"{error}\n"


def lines_of(text: str) -> list[tuple[list[str], list[float]]]:
    """The words and the numbers of each line of a CSV file, in the order of the words."""
    lines = [list(map(number, line)) for line in csv.reader(io.StringIO(text))]
    return sorted(
        ([str(type(c)) if isinstance(c, float) else c for c in line], numbers(line))
        for line in lines
    )


def numbers(cells: list[float | str]) -> list[float]:
    return [cell for cell in cells if isinstance(cell, float)]


def number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return cell


@pytest.fixture(scope="module", params=RECORDS)
def shown(request) -> tuple[Path, dict[str, str]]:
    return GOLDEN / request.param, views(RECORDS[request.param]())


def test_every_view_is_there(shown: tuple[Path, dict[str, str]]):
    folder, texts = shown
    assert texts.keys() == {path.name for path in folder.iterdir()}


def test_texts_are_the_same_to_the_letter(shown: tuple[Path, dict[str, str]]):
    folder, texts = shown
    for name in texts:
        if not name.endswith(".csv"):
            expected = (folder / name).read_text(encoding="utf-8")
            assert texts[name].splitlines() == expected.splitlines(), name


def test_numbers_of_csv_files_are_the_same(shown: tuple[Path, dict[str, str]]):
    folder, texts = shown
    for name in texts:
        if name.endswith(".csv"):
            lines = lines_of(texts[name])
            expected = lines_of((folder / name).read_text(encoding="utf-8"))
            assert len(lines) == len(expected), name
            for (words, values), (other, known) in zip(lines, expected, strict=True):
                assert words == other, name
                assert values == pytest.approx(known, rel=1e-12, abs=1e-15, nan_ok=True), name


def write() -> None:
    for folder, records in RECORDS.items():
        (GOLDEN / folder).mkdir(parents=True, exist_ok=True)
        for name, text in views(records()).items():
            (GOLDEN / folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
