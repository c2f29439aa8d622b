"""Tables, who holds which columns, and how rows are encoded."""

from pathlib import Path

import pytest
import torch

from unrelearn.data.digits_halves import DigitsHalves
from unrelearn.data.gauss_pair import GaussPair
from unrelearn.data.table import Table
from unrelearn.data.wine_red import WineRed
from unrelearn.errors import UsageError
from unrelearn.evals.published import correlations
from unrelearn.gan.columns import Encoding, partition

CSV = "age;income;class\n" + "".join(f"{20 + i};{i * 0.5};{i % 3}\n" for i in range(30))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    (tmp_path / "table.csv").write_text(CSV)
    made = Table(str(tmp_path / "table.csv"), categorical=["class"], target="class")
    assert made.check() == []
    return made


def test_rows_of_a_csv_are_encoded_and_decoded(table: Table):
    rows = table.load().train
    assert rows.shape == (24, 3) and table.columns[2].values == (0.0, 1.0, 2.0)
    encoding = Encoding.of(table.columns, rows)
    encoded = encoding.encode(rows)
    assert encoded.shape == (24, 5) and encoded[:, 2:].sum(1).eq(1).all()
    torch.testing.assert_close(encoded[:, :2].mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoding.decode(encoded), rows)


def test_training_and_test_rows_share_none(table: Table):
    data = table.load()
    ages = [set(part[:, 0].tolist()) for part in (data.train, data.test)]
    assert len(ages[0] | ages[1]) == 30 and not ages[0] & ages[1]


def test_columns_are_shared_in_halves_sides_and_lists(table: Table):
    digits = DigitsHalves()
    assert partition("halves", digits) == [[*range(32)], [*range(32, 64)]]
    left, right = partition("left_right", digits)
    assert left[:5] == [0, 1, 2, 3, 8] and right[:5] == [4, 5, 6, 7, 12]
    assert partition("interleaved", digits)[1][:3] == [1, 3, 5]
    assert partition("columns", GaussPair(width=2)) == [[0, 1], [2, 3]]
    for kind in ("left_right", "columns"):
        with pytest.raises(UsageError, match=f"gan.partition={kind}"):
            partition(kind, table)
    table.party_columns = [["age", "income"], ["class", "age"]]
    with pytest.raises(UsageError, match="column age is in two parties"):
        partition("columns", table)
    table.party_columns = [["age"], ["class"]]
    with pytest.raises(UsageError, match="column income is in no party"):
        partition("columns", table)


def test_files_of_parties_must_have_the_same_rows_and_no_column_twice(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n5,6\n")
    (tmp_path / "b.csv").write_text("z\n1\n")
    (tmp_path / "c.csv").write_text("y,z\n1,2\n3,4\n5,6\n")
    (tmp_path / "d.csv").write_text("u,v\n1,2\n3,5\n4,4\n")
    roots = {name: str(tmp_path / f"{name}.csv") for name in "abcd"}
    (line,) = Table([roots["a"], roots["b"]]).check()
    assert "parties must hold the same rows, and these have [3, 1]" in line
    (line,) = Table([roots["a"], roots["c"]]).check()
    assert "y is in two" in line
    both = Table([roots["a"], roots["d"]])
    assert both.check() == [] and both.party_columns == [["x", "y"], ["u", "v"]]
    some = Table([roots["a"], roots["d"]], names=["y", "u", "v"])
    assert some.check() == [] and partition("columns", some) == [[0], [1, 2]]


@pytest.mark.parametrize("names", [["disease"], ["fixed acidity", "pH"], ["0", "1"]])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_other_programs_are_read(names, separator, start, end, tmp_path: Path):
    lines = [names, *([f"{i}.5" for _ in names] for i in range(4))]
    text = start + end.join(separator.join(line) for line in lines) + end
    (tmp_path / "table.csv").write_bytes(text.encode())
    table = Table(str(tmp_path / "table.csv"))
    assert table.check() == [] and [column.name for column in table.columns] == names
    assert table._read()[:, -1].tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(names=["age", "size"]), "there is no column size; there are age, income, class"),
        (dict(categorical=["kind"]), "there is no column kind"),
        (dict(categorical={"kind": [1]}), "dataset.categorical=[kind]: there is no column kind"),
        (dict(categorical={"class": [0, 1]}), "class=[0.0,1.0]: the rows have 2 as well"),
        (dict(names=["age", "age"]), "dataset.names=[age,age]: each once"),
        (dict(target="age"), "dataset.target=age: is no category"),
        (dict(bounds={"age": [0, float("inf")]}), "dataset.bounds.age=[0,inf]: must be two"),
        (dict(test_share=1.0), "dataset.test_share=1.0: leaves 30 of 30 rows to test on"),
    ],
)
def test_what_does_not_fit_the_columns_is_one_line(tmp_path: Path, changes: dict, said: str):
    (tmp_path / "table.csv").write_text(CSV)
    (line,) = Table(str(tmp_path / "table.csv"), **changes).check()
    assert said in line


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("age,name\n20,Ann\n30,Bob\n", "must hold finite numbers alone, and name does not"),
        ("age,size\n20,inf\n30,1\n", "must hold finite numbers alone, and size does not"),
        ("age,size\n", "no rows below the line of names"),
        ("age,size\n1,2\n", "leaves 0 of 1 rows to test on"),
        ("age,size\n1,2\n", "Type dataset.root=/path/table.csv of more rows"),
        ("", "is no CSV file"),
        ("0.5,1\n1,2\n3,4\n", "its first line has numbers"),
        ("age,age\n1,2\n3,4\n", "it has two columns called age"),
        ("age,size\n1,2,\n3,4,\n", "its rows hold more values than its first line has names"),
        (",age,size\n0,1,2\n1,3,4\n", "Unnamed: 0 has no name"),
        (",age,size\n0,1,2\n1,3,4\n", "Type 'dataset.names=[age,size]'"),
        ("age,name\n20,Ann\n30,Bob\n", "Type 'dataset.names=[age]'"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(text: str, why: str, tmp_path: Path):
    (tmp_path / "table.csv").write_text(text)
    (line,) = Table(str(tmp_path / "table.csv")).check()
    assert why in line


def test_values_of_a_category_are_known_or_read_from_the_rows(table: Table):
    known = Table(table.root, categorical={"class": [2, 1, 0, 0, 3]}, target="class")
    assert known.check() == [] and known.columns[2].values == (2.0, 1.0, 0.0, 3.0)
    assert [column.read for column in known.columns] == [False] * 3
    assert [column.read for column in table.columns] == [False, False, True]
    again = Table(table.root, categorical={"class": [0, 1, 2]}, target="class")
    assert again.fingerprint() == table.fingerprint()  # the same rows of the same columns


def test_wine_is_looked_for_in_a_folder_or_as_a_file(tmp_path: Path):
    assert "winequality-red.csv: no such file" in WineRed(str(tmp_path)).check()[0]
    names = [*WineRed.public, "quality"]
    lines = [
        ",".join(names),
        *(",".join(str(i + k) for k in range(11)) + f",{3 + i % 6}" for i in range(10)),
    ]
    (tmp_path / "winequality-red.csv").write_text("\n".join(lines))
    for root in (tmp_path, tmp_path / "winequality-red.csv"):
        wine = WineRed(str(root))
        assert wine.check() == [] and len(wine.load().train) == 8
        assert not any(column.read for column in wine.columns)
        assert [len(part) for part in partition("columns", wine)] == [6, 6]


def test_the_covariance_of_gauss_pair_is_the_one_that_is_said():
    matrix = correlations(GaussPair(records=20000, width=2, correlation=0.7).load().train)
    expected = torch.eye(4) + 0.7 * torch.eye(4).roll(2, 0)
    torch.testing.assert_close(matrix.float(), expected, rtol=0, atol=0.03)
