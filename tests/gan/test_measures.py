"""What is measured of published tables, on tables of which the answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from unrelearn.evals import (
    cross_dependence,
    fd_raw,
    intra_dependence,
    nearest_record,
    sdmetrics,
    tstr,
)
from unrelearn.evals.published import PublishedTables


def blocks(count: int, seed: int, correlation: float = 0.8) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    a, noise = (torch.randn(count, 2, generator=g) for _ in range(2))
    return torch.cat([a, correlation * a + (1 - correlation**2) ** 0.5 * noise], 1)


def labelled(rows: Tensor) -> Tensor:
    """And a category, whether the first column is above 0."""
    return torch.cat([rows, torch.nn.functional.one_hot((rows[:, 0] > 0).long(), 2)], 1)


def evidence(*tables: Tensor, count: int = 2000) -> PublishedTables:
    real, test = (labelled(blocks(count, seed)) for seed in (0, 1))
    names = [(f"x{i}", [i], False) for i in range(4)] + [("class", [4, 5], True)]
    stacked = torch.stack([*tables])
    whole = real.expand(len(stacked), -1, -1)
    return PublishedTables(whole, test, stacked, [[0, 1], [2, 3, 4, 5]], [4, 5], names)


SAME = labelled(blocks(2000, 5))
PERMUTED = torch.cat([SAME[:, :2], SAME.roll(7, 0)[:, 2:]], 1)
BROKEN = SAME.clone()
BROKEN[3, 1] = float("nan")


def test_parties_of_one_column_have_nothing_within_them():
    seen = replace(evidence(SAME), parties=[[0], [2]])
    assert intra_dependence.run(seen)["value"] is None
    assert cross_dependence.run(seen)["value"] < 0.1


def test_permuted_rows_lose_what_parties_know_of_each_other_and_nothing_else():
    seen = evidence(SAME, PERMUTED)
    same, permuted = cross_dependence.run(seen)["values"]
    assert same < 0.04 and permuted > 0.25
    same, permuted = intra_dependence.run(seen)["values"]
    assert same < 0.04 and permuted < 0.04


def test_the_frechet_distance_is_that_of_normal_distributions():
    seen = evidence(SAME, SAME + torch.tensor([3.0, 0, 0, 0, 0, 0]))
    same, shifted = fd_raw.run(seen)["values"]
    assert same < 0.05 and shifted == pytest.approx(9, rel=0.1)
    x = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    x = (x - x.mean()) / x.std()
    assert fd_raw.frechet(x, 3 * x) == pytest.approx(4, rel=1e-4)  # (3 - 1)^2
    both = torch.cat([x, x], 1)  # a singular covariance
    assert fd_raw.frechet(both, both) == pytest.approx(0, abs=1e-6)


def test_forests_learn_of_published_rows_what_holds_of_real_ones():
    noise = SAME.clone()
    noise[:, 4:] = SAME.roll(11, 0)[:, 4:]
    result = tstr.run(evidence(SAME, noise), trees=20, depth=3)
    same, wrong = result["values"]
    assert same > 0.9 and wrong < 0.65 and result["real"]["accuracy"] > 0.9
    assert 0.45 < result["majority"] < 0.6
    no_target = PublishedTables(*list(vars(evidence(SAME)).values())[:4], [], [])
    assert tstr.run(no_target, trees=2, depth=2) == {}


def test_memorised_rows_are_near():
    seen = evidence(SAME, evidence(SAME).real[0])
    fresh, copied = nearest_record.run(seen, records=500)["values"]
    assert 0.8 < fresh < 1.25 and copied == 0


def test_rows_can_not_be_near_where_fresh_ones_are_training_rows():
    seen = evidence(SAME)
    twins = replace(seen, test=seen.real[0, :100])
    assert nearest_record.run(twins, records=500)["value"] is None


def test_sdmetrics_tells_tables_apart():
    pytest.importorskip("sdmetrics")
    result = sdmetrics.run(evidence(SAME, PERMUTED), pairs=10)
    assert min(result["values"]) > 0.95  # both have the right columns
    same, permuted = result["pairs"]["values"]
    assert same > permuted + 0.1


@pytest.mark.parametrize("measure", [cross_dependence, intra_dependence, fd_raw])
def test_a_table_that_is_not_finite_has_no_value(measure: object):
    result = measure.run(evidence(SAME, BROKEN))
    assert result["values"][1] is None and result["value"] == result["values"][0]
    assert result["sd"] is None and np.isfinite(result["value"])
