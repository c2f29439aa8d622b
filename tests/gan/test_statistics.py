"""Statistics of columns that are released with noise, and the account that they are part of."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import Cell, execute
from torch import Tensor

from unrelearn.data.table import Column
from unrelearn.gan.accounting import POISSON, Gaussian
from unrelearn.gan.columns import Encoding
from unrelearn.gan.privacy.dpsgd import DPSGD
from unrelearn.gan.privacy.gs import GS
from unrelearn.gan.privacy.none import AccountedTraining
from unrelearn.gan.statistics import released
from unrelearn.tracks import vflgan

COLUMNS = [
    Column("age", bounds=(0.0, 100.0)),
    Column("kind", values=(0.0, 1.0)),
    Column("income", bounds=(-50.0, 50.0)),
]


def rows(count: int = 400) -> Tensor:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, generator=g) * torch.tensor([20.0, 1.0, 15.0])
    return x + torch.tensor([40.0, 0.0, -10.0])


def sums(table: Tensor, noise_multiplier: float = 1e-12, seed: int = 0) -> Tensor:
    """What is released, of u in [-1, 1]: the sums of u and of u^2, (4,)."""
    g = torch.Generator().manual_seed(seed)
    scaling = released(COLUMNS, table, noise_multiplier, g)
    mean = torch.tensor([(at - c) / 50 for (at, _), c in zip(scaling, (50, 0, 0), strict=True)])
    scale = torch.tensor([spread / 50 for _, spread in scaling])
    square = mean.square() + scale.square()
    return len(table) * torch.cat([mean[[0, 2]], square[[0, 2]]])


def test_without_noise_they_are_the_means_and_deviations_inside_the_bounds():
    x = rows()
    (at, spread), kind, (other, _) = released(COLUMNS, x, 1e-12, torch.Generator())
    inside = x[:, 0].clamp(0, 100)
    assert at == pytest.approx(inside.mean().item(), rel=1e-5)
    assert spread == pytest.approx(inside.std().item(), rel=5e-3)
    assert kind == (0.0, 1.0) and other == pytest.approx(
        x[:, 2].clamp(-50, 50).mean().item(), rel=1e-3
    )


def test_one_record_moves_what_is_released_by_no_more_than_the_sensitivity():
    x, moved = rows(), []
    for first in (-1e6, -50.0, 0.0, 50.0, 1e6):
        for second in (-1e6, 30.0, 100.0):
            one, other = x.clone(), x.clone()
            one[0], other[0] = first, second
            moved.append((sums(one) - sums(other)).norm().item())
    assert 2.7 < max(moved) <= 2 * 2**0.5 * 1.001  # two columns
    x[0] = 1e6
    assert 1.9 < (sums(x) - sums(x[1:])).norm() <= 2 * 1.001  # and one that is removed, by less


def test_noise_has_the_deviation_that_is_accounted_for():
    x, expected = rows(), 3.0 * 2 * 2**0.5
    noise = torch.stack([sums(x, 3.0, seed) for seed in range(1, 301)]) - sums(x)
    each = noise.std(0)
    assert (each - expected).abs().max() < 4 * expected / 600**0.5
    assert (torch.corrcoef(noise[:, :2].T)[0, 1]).abs() < 4 / 300**0.5


def test_a_scale_that_noise_leaves_nothing_of_has_a_least():
    scales = [released(COLUMNS, rows(5), 50.0, torch.Generator().manual_seed(s)) for s in range(20)]
    ages = [spread for (_, spread), *_ in scales]
    assert min(ages) == pytest.approx(5.0) and max(ages) <= 50.0001
    encoding = Encoding.scaled(COLUMNS, scales[0])
    torch.testing.assert_close(encoding.decode(encoding.encode(rows(5)))[:, 0], rows(5)[:, 0])


TRAINING = AccountedTraining(1279, 16, 500, 5, 2)
RELEASED = AccountedTraining(1279, 16, 500, 5, 2, True, 4.0)


def test_they_are_part_of_every_guarantee():
    pytest.importorskip("dp_accounting")
    known = dict(epsilon=None, delta=1e-4, noise_multiplier=2.0, clip=1.0)
    for mode in (DPSGD(**known), GS(**known, critics=20)):
        without, both = mode.account(TRAINING), mode.account(RELEASED)
        assert both["epsilon_record"] > without["epsilon_record"]
        assert "statistics of columns" in both["mechanism"]
    alone = Gaussian(POISSON, 1279, 16, 1, 4.0).epsilon(1e3, 1e-4)
    assert alone == pytest.approx(0.79, abs=0.02)  # of one Gaussian mechanism of noise 4


def test_their_share_is_taken_from_the_epsilon_that_is_asked_for():
    pytest.importorskip("dp_accounting")
    mode = DPSGD(epsilon=3.0, delta=1e-4, noise_multiplier=None, clip=1.0).prepared(RELEASED)
    whole, rest = (mode.account(t)["epsilon_record"] for t in (RELEASED, TRAINING))
    assert rest < 2.97 < whole <= 3.0


TINY = (
    "experiment=vflgan",
    "dataset=gauss_pair",
    "dataset.records=200",
    "model.pretrain.max_steps=10",
    "gan.replicas=1",
    "design=vflgan",
)
EVERY = "privacy=[first_layer,first_layer_scalar,first_layer_frozen,dpsgd,gs]"
NOISED = [
    word
    for mode in ("first_layer", "first_layer_scalar", "dpsgd", "gs")
    for word in (
        f"gan.privacy.{mode}.noise_multiplier=1",
        f"gan.privacy.{mode}.epsilon=null",
        f"gan.privacy.{mode}.delta=1e-3",
    )
]


def accounts(compose: Callable[..., dict], outputs: Path, *words: str) -> dict[str, dict]:
    given = [*TINY, EVERY, *NOISED, "gan.privacy.gs.critics=3", "model.pretrain.batch_size=16"]
    cfg = compose(*given, f"paths.outputs={outputs}", "eval=[cross_dependence]", *words)
    record = execute(cfg, "test")
    return {row["model"]: row["privacy"] for row in record["rows"] if "privacy" in row}


def test_what_has_no_guarantee_says_so_whatever_the_statistics(compose: Callable, tmp_path: Path):
    pytest.importorskip("dp_accounting")
    found = {s: accounts(compose, tmp_path, f"gan.statistics={s}") for s in ("public", "own", "dp")}
    for mode in ("dpsgd", "gs"):
        of = {statistics: known[f"vflgan, {mode}"] for statistics, known in found.items()}
        assert of["own"]["epsilon_record"] is None
        assert "own statistics" in of["own"]["no_guarantee"]
        assert 0 < of["public"]["epsilon_record"] < of["dp"]["epsilon_record"]
        assert of["public"]["no_guarantee"] == of["dp"]["no_guarantee"] == ""
    for known in found.values():
        for mode in ("first_layer", "first_layer_scalar", "first_layer_frozen"):
            account = known[f"vflgan, {mode}"]
            assert account["epsilon_record"] is None and "raw records" in account["no_guarantee"]


def test_values_that_were_read_from_the_rows_are_no_part_of_a_guarantee(
    compose: Callable, tmp_path: Path
):
    pytest.importorskip("dp_accounting")
    rows = "".join(f"{i % 7},{i % 5},{i % 2}\n" for i in range(100))
    (tmp_path / "table.csv").write_text("age,size,kind\n" + rows)
    table = ["dataset=table", f"dataset.root={tmp_path / 'table.csv'}", "gan.statistics=dp"]
    table += ["dataset.bounds={age:[0,7],size:[0,5]}", "privacy=dpsgd"]
    tiny = [word for word in TINY if not word.startswith("dataset")]
    tiny += [f"gan.privacy.dpsgd.{word}" for word in ("noise_multiplier=1", "epsilon=null")]

    def account(word: str) -> dict:
        cfg = compose(*tiny, *table, f"paths.outputs={tmp_path}", "eval=[cross_dependence]", word)
        record = execute(cfg, "test")
        return record["rows"][-1]["privacy"]

    known, read = (account(f"dataset.categorical={one}") for one in ("{kind:[0,1]}", "[kind]"))
    assert known["epsilon_record"] > 0 and known["no_guarantee"] == ""
    assert read["epsilon_record"] is None
    assert read["no_guarantee"] == "the values of kind were read from the rows"


def test_released_statistics_are_a_key_of_their_own(compose: Callable, tmp_path: Path):
    def columns(*words: str) -> vflgan.Generators:
        run = Cell(compose(*TINY, f"paths.outputs={tmp_path}", *words))
        return vflgan.models(run)[0].columns

    keys = [
        columns("gan.statistics=dp", *words).key
        for words in ([], ["seed=1"], ["gan.statistics_noise_multiplier=8"])
    ]
    assert len({*keys, columns().key}) == 4
    assert columns("gan.statistics_noise_multiplier=8").key == columns().key
    location = columns("gan.statistics=dp").encoding().location
    assert any(location) and max(map(abs, location)) < 5


def test_generators_of_pixels_are_bounded_by_public_statistics_alone(compose: Callable):
    def generators(*words: str) -> vflgan.Generators:
        return vflgan.models(Cell(compose("experiment=vflgan", "design=vflgan", *words)))[0]

    assert generators().bounded and "output" not in generators().config()
    released = generators("gan.statistics=dp")
    assert not released.bounded and released.config()["output"] == "linear"


def test_bounds_that_nobody_knows_are_asked_for(complaint: Callable, tmp_path: Path):
    (tmp_path / "table.csv").write_text("age,size\n" + "20,3\n30,4\n" * 40)
    words = ["experiment=vflgan", "dataset=table", f"dataset.root={tmp_path / 'table.csv'}"]
    words.append("gan.statistics=dp")
    (line,) = complaint(*words, "dataset.bounds={age:[0,120]}")
    assert "gan.statistics=dp: needs bounds" in line and "of size. Type" in line
    (line,) = complaint(*words, "dataset.bounds={age:[120,0]}")
    assert "dataset.bounds.age=[120,0]: must be two numbers, the lower one first" in line
    (line,) = complaint(*words, "dataset.bounds={weight:[0,1]}")
    assert "there is no column weight" in line
