"""CIFAR-10 inside a time box: pretrain as far as the minutes allow, unlearn with every method,
attack, gather the results.

    python scripts/half_hour.py [--pretrain-minutes 15] [--stop-after SECONDS] [--out FOLDER]
    [OVERRIDES ...]

The first call measures the seconds of a training step, fixes the number of pretraining steps and
writes it to <outputs>/half_hour.json; every later call continues with that number, so a box may be
cut into pieces (--stop-after stops the work cleanly before a limit). What is finished lands in
FOLDER: tables, figures, the records and, in bfloat16, the weights of every unlearned and attacked
model.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from unrelearn.paths import given

ROOT = Path(__file__).resolve().parents[1]
MEASURED_FROM, MEASURED_TO = 30, 80  # steps; compilation is over by then


def steps_for(minutes: float, overrides: list[str]) -> dict:
    """Pretraining steps that fit, in hundreds, from the speed measured here."""
    from hydra import compose, initialize_config_dir

    from unrelearn.config import validate
    from unrelearn.diffusion.denoising import Denoising, Pretraining
    from unrelearn.diffusion.kind import recipe
    from unrelearn.fit import fit
    from unrelearn.paths import CONF
    from unrelearn.run import Run
    from unrelearn.stages.train import Pretrain, fit_options

    with (
        initialize_config_dir(str(CONF), version_base="1.3"),
        tempfile.TemporaryDirectory() as folder,
    ):
        cfg = validate(
            compose(
                "config",
                overrides=[
                    "experiment=cifar10_half_hour",
                    "method=original",
                    *overrides,
                    f"paths.outputs={folder}",
                    "trainer.log_every_n_steps=10",
                ],
            )
        )
        run, stamps = Run(cfg, "half_hour"), {}
        options = fit_options(
            run, log_row=lambda step, row: stamps.update({step: time.perf_counter()})
        )
        arguments = recipe(asdict(cfg.model.pretrain)) | {"max_steps": MEASURED_TO}
        module = Denoising(Pretraining(**arguments), Pretrain(run).task())
        fit(module, Path(folder), "measure", options)
    seconds = (stamps[MEASURED_TO] - stamps[MEASURED_FROM]) / (MEASURED_TO - MEASURED_FROM)
    return {
        "seconds_per_step": seconds,
        "max_steps": max(100, int(minutes * 60 / seconds) // 100 * 100),
    }


def bring_home(outputs: Path, out: Path) -> None:
    """Tables and figures of everything that is finished, its records, and its weights in
    bfloat16.
    """
    import torch
    from safetensors.torch import load_file, save_file

    subprocess.run(
        [
            sys.executable,
            "scripts/report.py",
            str(outputs / "runs"),
            "--out",
            str(out),
            "--figures",
        ],
        cwd=ROOT,
    )
    for record in (outputs / "runs").glob("*/result.json"):
        shutil.copyfile(record, out / f"{record.parent.name}.json")
        shutil.copyfile(record.parent / "report.html", out / f"{record.parent.name}.html")
    for stage in ("pretrain", "unlearn", "attack"):
        for weights in (outputs / "artifacts" / stage).glob("*/**/*.safetensors"):
            if ".partial" not in weights.as_posix():
                target = out / "weights" / weights.relative_to(outputs / "artifacts")
                target.parent.mkdir(parents=True, exist_ok=True)
                save_file({k: v.to(torch.bfloat16) for k, v in load_file(weights).items()}, target)
                shutil.copyfile(weights.with_name("config.json"), target.with_name("config.json"))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pretrain-minutes", type=float, default=15)
    parser.add_argument(
        "--stop-after", type=float, metavar="SECONDS", help="interrupt the work in time for a limit"
    )
    parser.add_argument("--outputs", type=given, default=ROOT / "outputs")
    parser.add_argument("--out", type=given, default=ROOT / "outputs" / "half_hour")
    parser.add_argument("overrides", nargs="*", help="as for run.py")
    arguments = parser.parse_args()
    started, box = time.monotonic(), arguments.outputs / "half_hour.json"
    if not box.exists():
        plan = steps_for(arguments.pretrain_minutes, arguments.overrides)
        box.parent.mkdir(parents=True, exist_ok=True)
        box.write_text(json.dumps(plan))
    plan = json.loads(box.read_text())
    print(f"{plan['max_steps']} pretraining steps of {plan['seconds_per_step']:.4f} s", flush=True)
    work = subprocess.Popen(
        [
            sys.executable,
            "run.py",
            "-m",
            "experiment=cifar10_half_hour",
            f"model.pretrain.max_steps={plan['max_steps']}",
            f"paths.outputs={arguments.outputs}",
            *arguments.overrides,
        ],
        cwd=ROOT,
    )
    try:
        left = (
            None
            if arguments.stop_after is None
            else max(1.0, arguments.stop_after - (time.monotonic() - started))
        )
        code = work.wait(left)
    except subprocess.TimeoutExpired:
        work.send_signal(signal.SIGINT)
        code = work.wait(60)
        print("stopped in time; the same command goes on from here", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(box, arguments.out / "half_hour.json")
    if list((arguments.outputs / "runs").glob("*/result.json")):
        bring_home(arguments.outputs, arguments.out)
    return 0 if code == 130 else code


if __name__ == "__main__":
    sys.exit(main())
