"""trainer.devices=auto: a number before anything is checked or written."""

import pytest
import torch
from runs import Cell

from unrelearn.config import Sweep, composed, validate
from unrelearn.config.sweep import resolved
from unrelearn.errors import UsageError
from unrelearn.grid.plan import Plan

AUTO = ["trainer.devices=auto", "tracking=none"]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """gpus(4): of so many this machine is told to have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    return lambda number: monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


@pytest.mark.parametrize(
    ("there", "accelerator", "devices", "strategy"),
    [(4, "auto", 4, "ddp"), (4, "cpu", 1, "auto"), (1, "gpu", 1, "auto"), (0, "auto", 1, "auto")],
)
def test_all_devices_of_this_machine(gpus, there, accelerator, devices, strategy):
    gpus(there)
    config = composed([*AUTO, f"trainer.accelerator={accelerator}"])
    for cfg in (validate(config), resolved(config, {"seed": 3})):  # alone, and of a grid
        assert (cfg.trainer.devices, cfg.trainer.strategy) == (devices, strategy)
    assert Cell(cfg).settings["trainer"]["devices"] == devices


def test_the_processes_that_torchrun_or_slurm_started_are_the_devices(gpus, monkeypatch):
    gpus(4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert validate(composed(AUTO)).trainer.devices == 2


def test_messages_name_the_number(gpus):
    gpus(4)
    with pytest.raises(UsageError) as error:
        validate(composed([*AUTO, "unlearning.batch_size=6"]))
    (line,) = error.value.problems
    assert line.startswith("unlearning.batch_size=6: ") and "processes (trainer.devices), 4" in line
    with pytest.raises(UsageError, match=r"trainer\.devices=4: several runs"):
        validate(composed(AUTO), multirun=True)
    with pytest.raises(UsageError, match=r"trainer\.devices=all: must be a whole number or auto"):
        validate(composed(["trainer.devices=all"]), multirun=True)


def test_from_a_machine_without_gpus_the_number_of_others_can_not_be_told(gpus):
    gpus(0)
    with pytest.raises(UsageError) as error:
        Sweep(AUTO, elsewhere=True).compose({})
    (line,) = error.value.problems
    assert line.startswith("trainer.devices=auto: this machine has no GPU")
    assert line.endswith("Type trainer.devices=NUMBER")
    cfg, _ = Sweep([*AUTO, "trainer.accelerator=cpu"], elsewhere=True).compose({})
    assert cfg.trainer.devices == 1


@pytest.mark.parametrize("there", [0, 4])
def test_a_grid_is_read_where_its_devices_are_not(gpus, tmp_path, there):
    gpus(there)
    words = ["stages=[oracle]", f"paths.outputs={tmp_path}", "trainer.accelerator=auto"]
    plan = Plan.of([*words, *AUTO], reading=True)
    asked = Plan.of([*words, "tracking=none", "trainer=ddp", "trainer.devices=4"], elsewhere=True)
    assert plan.parts.keys() == asked.parts.keys()
