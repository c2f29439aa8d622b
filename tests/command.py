"""Running the real command at a tiny size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import forked
import tiny

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    *tiny.SMALL,
    "model.pretrain.max_steps=40",
    "model.pretrain.batch_size=16",
    "oracle.max_steps=20",
    "oracle.main.width=8",
    "oracle.held_out.width=8",
    "sampler.num_images=20",
    "sampler.images_per_retained_class=2",
    "sampler.num_inference_steps=2",
    "trainer.checkpoint_every_n_steps=10",
    "trainer.threads=1",
    "trainer.accelerator=cpu",
]
SHORT = [
    "method.max_steps=10",
    "method.batch_size=16",
    "attack.budgets=[0,5,10]",
    "attack.batch_size=16",
]


def environment(**changes: str) -> dict:
    return {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **changes}


def command(*overrides: str, tracking: str = "none", root: Path = ROOT) -> list[str]:
    flags = [
        o for o in overrides if o.startswith("-") or o == "job"
    ]  # Hydra wants its flags before the first override
    return [
        sys.executable,
        str(root / "run.py"),
        *flags,
        *TINY,
        f"tracking={tracking}",
        *(o for o in overrides if o not in flags),
    ]


def run(
    *overrides: str, tracking: str = "none", expect: int = 0, **changes: str
) -> subprocess.CompletedProcess:
    """The finished process; its exit code must be `expect`."""
    done = forked.finish(
        command(*overrides, tracking=tracking), cwd=ROOT, env=environment(**changes)
    )
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def weights_of(outputs: Path) -> dict[str, bytes]:
    """Every weight file of the finished artefacts, by stage, key and name."""
    store = outputs / "artifacts"
    return {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(store.rglob("*.safetensors"))
        if ".partial" not in path.as_posix() and ".damaged" not in path.as_posix()
    }


def numbers(outputs: Path) -> dict[str, dict]:
    """What every run of a folder measured, by its name; not when, by whom and how fast."""
    records = [json.loads(path.read_text()) for path in (outputs / "runs").glob("*/result.json")]
    return {record["name"]: record["rows"] for record in records}
