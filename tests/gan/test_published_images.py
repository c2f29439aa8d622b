"""Tables whose rows are images, as the classifier that measures sees them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import Cell

from unrelearn.audits import scores
from unrelearn.data.digits import Digits
from unrelearn.data.table import PixelTables
from unrelearn.evals import fd_oracle
from unrelearn.evals.published import PublishedTables
from unrelearn.gan.federation import Federation
from unrelearn.report import published
from unrelearn.stages import pixels, worlds
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


AUDITED = [*TINY, "audit=published", "gan.audit.replicas=8", "gan.audit.targets=[outlier]"]


def test_images_of_many_pixels_are_audited_by_the_oracle(compose: Callable[..., dict]):
    def by_oracle(*words: str) -> bool:
        return worlds.looks(Cell(compose(*AUDITED, *words, "dry_run=true")))

    assert not by_oracle() and by_oracle("gan.audit.features=oracle")
    (audit,) = vflgan.audits(Cell(compose(*AUDITED, "gan.audit.features=oracle")))
    assert "oracle" in {stage.name for stage in audit.parents()}
    many = PixelTables(SimpleNamespace(image_size=28))
    run = Cell(compose(*AUDITED))
    run.dataset = many
    assert worlds.looks(run)


def test_replicas_that_publish_the_record_are_told_by_its_features(
    compose: Callable[..., dict], outputs: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scores, "TREES", 20)

    def memorised(self: Federation, records: int) -> list[torch.Tensor]:
        """Forty rows by chance, the farthest from all others among them."""
        rows = torch.cat([party.data for party in self.parties.values()], 1)
        order = self.draws.uniform("memorised", 0, len(rows)).argsort(1)[:, :records]
        order[:, 0] = torch.cdist(rows, rows).topk(6, largest=False).values.mean(1).argmax()
        return list(rows[order].split([party.data.shape[1] for party in self.parties.values()], 2))

    monkeypatch.setattr(Federation, "publish", memorised)
    words = ["gan.audit.features=oracle", "gan.audit.records=40", f"paths.outputs={outputs}"]
    (audit,) = vflgan.audits(Cell(compose(*AUDITED, *words)))
    verdicts = json.loads((audit.build().path / "verdicts.json").read_text())
    aucs = {(one["target"], one["attack"]): one["auc"] for one in verdicts}
    assert len(aucs) == 8 and aucs["outlier", "nearest record"] == 1.0
    assert aucs["null", "nearest record"] < 1.0


def test_what_is_no_image_is_not_audited_as_one(complaint: Callable[..., list[str]]):
    words = [*AUDITED[:2], *AUDITED[-3:], "dataset=gauss_pair", "gan.audit.features=oracle"]
    (line,) = complaint(*words)
    assert line.startswith("error: gan.audit.features=oracle: looks at images")
    assert line.endswith("Type gan.audit.features=columns")
