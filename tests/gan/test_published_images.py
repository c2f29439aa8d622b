"""Tables whose rows are images, as the classifier that measures sees them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import Cell

from unrelearn.data.digits import Digits
from unrelearn.evals import fd_oracle
from unrelearn.evals.published import PublishedTables
from unrelearn.report import published
from unrelearn.stages import pixels
from unrelearn.stages.classifier import classifier
from unrelearn.tracks import vflgan

TINY = [
    "experiment=vflgan",
    "design=[vflgan]",
    "gan.replicas=2",
    "gan.partition=interleaved",
    "model.pretrain.max_steps=10",
    "eval=[fd_oracle]",
    "oracle.max_steps=60",
]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def test_the_oracle_is_that_of_denoisers_of_the_same_images(compose: Callable[..., dict]):
    of_images = Cell(compose("dataset=digits", "oracle.max_steps=60"))
    assert pixels.oracle(Cell(compose(*TINY))).key == of_images.classifiers("main").key


def test_floors_lie_below_rows_of_a_generator_that_has_learned_nothing(
    compose: Callable[..., dict], outputs: Path
):
    run = Cell(compose(*TINY, f"paths.outputs={outputs}"))
    rows = vflgan.rows(run)
    halves, again, permuted, trained = (published.value_of(row, "fd_oracle") for row in rows)
    assert all(len(one["values"]) == 2 for one in (halves, again, permuted, trained))
    assert 0 < max(halves["value"], again["value"]) < permuted["value"] < trained["value"]
    headers, _ = published.cells({"rows": rows})
    assert "FD\n(oracle)" in headers
    evidence = vflgan.evaluations(run)[-1].evidence()
    assert evidence.real_features.shape == (2, 646, 64)  # half of each class
    broken = evidence.features.clone()
    broken[1, 3, 0] = torch.nan
    values = fd_oracle.run(replace(evidence, features=broken))["values"]
    assert values == [trained["values"][0], None]


def test_rows_are_seen_as_the_images_that_they_are(compose: Callable[..., dict], outputs: Path):
    run, data = Cell(compose(*TINY, f"paths.outputs={outputs}")), Digits().load()
    rows = vflgan.compared(run)[0].columns.rows()["test"]
    network = classifier(pixels.images_run(run), "main")
    for seen, expected in zip(pixels.look(run, rows), network.look(data.test.images), strict=True):
        assert seen.equal(expected)
    one_broken = rows[:3].clone()
    one_broken[1, 5] = torch.inf
    finite = pixels.look(run, one_broken)[1].isfinite().all(1)
    assert finite.tolist() == [True, False, True]


def test_the_distance_of_tables_is_that_of_their_features():
    g = torch.Generator().manual_seed(0)
    features = torch.randn(1, 500, 3, generator=g).double()
    nothing = torch.zeros(1, 1, 1)
    given = (nothing, nothing[0], nothing, [], [], [])
    seen = PublishedTables(*given, real_features=features, features=features + 2)
    assert fd_oracle.run(seen)["value"] == pytest.approx(12)
