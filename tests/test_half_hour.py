"""The time-boxed CIFAR-10 script, on digits and in seconds: it fixes its number of steps once, and
brings everything home.
"""

import json
import sys
from pathlib import Path

import forked
from command import ROOT, SHORT, TINY, environment

from unrelearn.diffusion import denoiser


def test_a_box_is_measured_once_worked_through_and_brought_home(tmp_path: Path):
    outputs, out = tmp_path / "outputs", tmp_path / "out"
    small = [o for o in [*TINY, *SHORT] if not o.startswith("model.pretrain.max_steps")]
    command = [
        sys.executable,
        "scripts/half_hour.py",
        "--pretrain-minutes",
        "0.001",
        "--outputs",
        str(outputs),
        "--out",
        str(out),
        "dataset=digits",
        "model=unet_tiny",
        "trainer=auto",
        "precision=32-true",
        "forget=7",
        "tracking=none",
        "method=dimum",
        "trainer.log_every_n_steps=10",
        *small,
    ]
    runs = [forked.finish(command, cwd=ROOT, env=environment()) for _ in range(2)]
    assert [done.returncode for done in runs] == [0, 0], runs
    texts = [done.stdout for done in runs]
    assert json.loads((out / "half_hour.json").read_text())["max_steps"] == 100
    assert "0 of" not in texts[0] and "0 of" in texts[1], (
        "the second call has nothing left to compute"
    )
    record = json.loads(next(out.glob("digits-dimum-*.json")).read_text())
    assert record["config"]["model"]["pretrain"]["max_steps"] == 100 and (out / "table.md").exists()
    weights = [path.parent for path in (out / "weights").rglob("config.json")]
    assert len(weights) == 5  # pretrained raw and EMA, unlearned, attacked twice
    assert all(denoiser.load(folder).config.num_class_embeds == 11 for folder in weights)
