"""Whether what is published depends across parties as the rows do, where the answer is known."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import execute
from torch import Tensor

from unrelearn.data.gauss_pair import GaussPair
from unrelearn.data.wine_red import WineRed
from unrelearn.evals.published import block_error
from unrelearn.gan.designs.local import Local
from unrelearn.gan.designs.vflgan import VFLGAN, Design
from unrelearn.gan.designs.wgan_gp import WGANGP
from unrelearn.gan.federation import Federation
from unrelearn.gan.layers import Output
from unrelearn.gan.members import Settings
from unrelearn.gan.party import Shape
from unrelearn.gan.privacy.none import Privacy
from unrelearn.gan.wire import Wire
from unrelearn.report import published

SHAPE = Shape((16, 32), (32,), (16,), 8, True, "joint", 10.0, 1e-5)
SETTINGS = Settings(SHAPE, 1000, 64, 1e-3, 5)


def error(rows: Tensor, table: Tensor) -> float:
    return block_error(rows, table, [([0, 1], [2, 3])])


def errors(design: Design, rows: Tensor) -> list[float]:
    """Of three replicas."""
    held = [rows] if design.joined else [rows[:, :2].clone(), rows[:, 2:].clone()]
    columns = [(x, Output((1,) * x.shape[1], False)) for x in held]
    settings = replace(SETTINGS, shape=SHAPE.wider(design.networks(2)))
    privacy = Privacy(records=len(rows))
    trained = Federation(design, privacy, settings, columns, [0, 1, 2], Wire())
    trained.train(SETTINGS.max_steps)
    return [error(rows, table) for table in torch.cat(trained.publish(2000), -1)]


def test_a_critic_of_whole_records_learns_what_lies_between_parties():
    rows = GaussPair(width=2).load().train
    permuted = error(rows, torch.cat([rows[:, :2], rows[:, 2:].roll(7, 0)], 1))
    local = errors(Local(), rows)
    assert max(abs(value - permuted) for value in local) < 0.05
    for design in (VFLGAN(), WGANGP()):
        found = errors(design, rows)
        assert sum(found) < 0.5 * sum(local), type(design).__name__


DATA = os.environ.get("UNRELEARN_DATA")


@pytest.mark.skipif(
    not DATA or bool(WineRed(DATA).check()), reason="UNRELEARN_DATA holds no winequality-red.csv"
)
def test_the_order_of_errors_on_red_wine(compose: Callable[..., dict], tmp_path: Path):
    """15,000 steps of eight seeds: the two with critics of whole records are not told apart by
    three. Some ten minutes of an idle core.
    """
    words = ["experiment=vflgan", "dataset=wine_red", f"dataset.root={DATA}", "gan.replicas=8"]
    words += ["design=[wgan_gp,vflgan,local]", "eval=[cross_dependence]"]
    record = execute(compose(*words, f"paths.outputs={tmp_path}"), "test")
    found = {r["model"]: published.value_of(r, "cross_dependence") for r in record["rows"]}
    value = {model: measured["value"] for model, measured in found.items()}
    permuted = value["real: last party permuted"]
    assert value["real: drawn again"] < value["wgan_gp"] <= value["vflgan"] < permuted
    assert permuted <= value["local"] < 1.15 * permuted  # they know nothing of each other
