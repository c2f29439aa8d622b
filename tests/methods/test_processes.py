"""Two processes train the model that one trains, whatever the method or attack."""

import sys
from pathlib import Path

import forked
import pytest
import torch
from command import environment
from makers import IN_PROCESSES
from tiny import moved, train

SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
from makers import IN_PROCESSES
from tiny import train
from unrelearn import distributed, launch

launch.processes(SimpleNamespace(threads=1, devices=1, accelerator="cpu", timeout_minutes=10))
folder = Path(sys.argv[1])
for name, make in IN_PROCESSES.items():
    module = train(make(), folder / name)
    state = module.state_dict(), module.rows
    torch.save(state, folder / f"{name}-{distributed.rank()}.pt")
launch.leave()
"""


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)
def test_two_processes_train_the_models_that_one_trains(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    twice = str(Path(__file__).parents[1] / "twice.py")
    words = [sys.executable, twice, "True", str(tmp_path / "script.py"), str(tmp_path)]
    done = forked.finish(words, cwd=tmp_path, env=environment(CUDA_VISIBLE_DEVICES=""))
    assert done.returncode == 0, done.stderr
    for name, make in IN_PROCESSES.items():
        (state, rows), (other, other_rows) = (
            torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1)
        )
        alone = train(make(), tmp_path / f"alone-{name}")
        assert rows == other_rows and not moved(state, other)
        for row, expected in zip(rows, alone.rows, strict=True):
            assert row == pytest.approx(expected, rel=1e-3, abs=1e-6)
        # first gradients are small in places, which Adam undoes, and with it rounding
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=3e-4)
