"""A stage that nobody knew: a class of its own and a line in the track, and all else follows."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import ROOT, TINY
from rich.console import Console
from runs import Cell, execute
from safetensors.torch import load_file

from unrelearn import cost
from unrelearn.artifact import write_json
from unrelearn.grid.cells import Swept
from unrelearn.grid.plan import Plan
from unrelearn.grid.status import overview
from unrelearn.grid.work import Worker
from unrelearn.run import Run
from unrelearn.stage import Cost, Stage, kinds, walk
from unrelearn.stages.train import Trained
from unrelearn.tracks import diffusion as track

WORDS = ["tracking=none", *TINY, "method=dimum", "method.batch_size=16", "attack=none"]


class Norms(Stage):
    """The norm of each layer of a model."""

    name = "layer_norms"
    axis = "layer_norms/layer"
    seconds = 3.0

    def __init__(self, run: Run, start: Trained):
        super().__init__(run)
        self.start = start

    def config(self) -> dict[str, Any]:
        return {"order": 2}

    def parents(self) -> list[Stage]:
        return [self.start]

    def make(self, folder: Path) -> dict[str, Any]:
        weights = self.start.weights()
        assert weights is not None
        layers = load_file(weights / "diffusion_pytorch_model.safetensors")
        with self.track() as logged:
            norms = {name: float(layer.float().norm()) for name, layer in layers.items()}
            logged.summary({"largest": max(norms.values())})
        write_json(folder / "norms.json", norms)
        return {}

    def cost(self) -> Cost:
        return Cost(steps=0, flops=12e15, bytes=2**30)


@pytest.fixture
def with_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line in the track."""
    targets = track.targets
    monkeypatch.setattr(
        track, "targets", lambda run: [*targets(run), Norms(run, track.models(run)[-1].stage)]
    )


def script(name: str) -> Any:
    found = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_new_stage_is_a_file_and_a_line_in_the_track(
    with_norms: None, compose: Callable[..., dict], tmp_path: Path, capsys: pytest.CaptureFixture
):
    outputs = tmp_path / "outputs"
    words = [*WORDS, "method.max_steps=10", "trainer.accelerator=cpu", f"paths.outputs={outputs}"]

    # order and keys: after the model that it is made of, whose key its own follows
    runs = [Cell(compose(*words, f"seed={seed}")) for seed in (0, 1)]
    names = [stage.name for stage in walk(track.targets(runs[0]))]
    assert names.index("pretrain") < names.index("unlearn") < names.index("layer_norms")
    assert Norms(runs[0], track.models(runs[0])[-1].stage).key != (
        Norms(runs[1], track.models(runs[1])[-1].stage).key
    )

    # what it would cost
    console = Console(width=120)
    cost.show(runs[0], walk(track.targets(runs[0])), console)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "layer_norms" in line]
    assert "to do" in line and " 12 " in line and line.rstrip(" │┃|").endswith("1")

    # a grid of two seeds: a part for each model, and its state
    plan = Plan(Swept([*words, "seed=0,1"]))
    parts = [part for part in plan.parts.values() if part.stage == "layer_norms"]
    assert len(parts) == 2 and all(part.needs[0].startswith("unlearn/") for part in parts)
    assert overview(plan).counts["layer_norms"] == {"to do": 2}
    assert plan.seconds()(parts[0]) > 0

    # a run makes it once and names it
    created = set()
    for status in ("computed", "reused"):
        record = execute(compose(*words), "test")
        assert record is not None
        (stage,) = [stage for stage in record["stages"] if stage["stage"] == "layer_norms"]
        assert stage["status"] == status
        created.add(record["created"])
    assert len(created) == 1, "a run of which all is there keeps its record"
    (made,) = outputs.glob("artifacts/layer_norms/*/norms.json")
    assert "conv_in.weight" in made.read_text()
    worker = Worker(plan.parts, plan.inventory, plan.folder, plan.configuration)
    assert worker.work(plan.parts) == {}
    assert overview(plan).counts["layer_norms"] == {"done": 2}

    # garbage collection keeps what a record names, and lets go of it with the record
    (forgotten,) = outputs.glob("runs/*seed1*")
    shutil.rmtree(forgotten)
    assert script("gc").main([str(outputs), "--hours", "0"]) == 0
    assert "layer_norms: 1 of 2" in capsys.readouterr().out

    # what its curves are drawn over
    assert Norms in kinds() and script("sync_wandb").axes()["layer_norms"] == "layer_norms/layer"
