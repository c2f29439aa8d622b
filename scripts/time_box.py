"""An experiment inside a box of minutes, on a device that is lent for a short time.

    python scripts/time_box.py --minutes 9 cifar10_box
    python scripts/time_box.py --minutes 9 classification/cifar10 method=salun,retrain

The first box measures the seconds of a training step and fixes the number of pretraining steps to
what takes half of it, retraining and references included; a third is meant for unlearning and
attacks, a sixth for measuring. The runs follow in the order of the experiment, each measured before
the next begins, until the box ends: a training that is interrupted goes on from its checkpoint. A
later box of the same outputs keeps the number of steps and goes on with the runs that are left; on
a machine that is handed back in between, take the folder of outputs along.

A box may end half a minute after its time, as the report is still made: leave that much where the
machine itself ends a command. Rehearse on a CPU first, on digits and tiny:

    python scripts/time_box.py --minutes 5 cifar10_box dataset=digits forget=7 model=unet_tiny
        trainer=auto precision=32-true method=dimum relearning.learning_rate=1e-3
        relearning.budgets=[0,20] unlearning.max_steps=20 oracle.max_steps=100
        sampler.num_images=20 sampler.num_inference_steps=5 sampler.images_per_retained_class=2
        paths.outputs=outputs/rehearsal

What is finished lies in outputs/box/EXPERIMENT (--out) afterwards, in at most 8 files of at most 16
MiB: results.zip (records, tables, figures, pages) and the newest weights in bfloat16,
weights.zip.001 and so on, to be put together by `cat weights.zip.* > weights.zip`.

Needs no wandb, no clean-fid and no rich. To a machine with torch, torchvision, lightning, numpy,
scipy, scikit-learn, pandas, matplotlib, jinja2, pydantic, pillow, filelock and safetensors these
wheels travel: diffusers, hydra-core, omegaconf, antlr4-python3-runtime, torchmetrics,
lightning-utilities, huggingface_hub, requests, pyyaml; and data/ by
`scripts/fetch_data.py cifar10 --pack`.
"""

import argparse
import contextlib
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from hydra.utils import get_object

from unrelearn import launch
from unrelearn.artifact import write_json
from unrelearn.errors import UsageError
from unrelearn.grid.parts import Part
from unrelearn.grid.plan import Plan
from unrelearn.paths import given
from unrelearn.run import Run
from unrelearn.stages.predict import References
from unrelearn.stages.train import Attack, Pretrain, Unlearn, fit_options

ROOT = Path(__file__).resolve().parents[1]
MEASURED_FROM, MEASURED_TO = 30, 80  # steps; compilation is over by then
PRETRAINING, CHANGING, MEASURING = 1 / 2, 1 / 3, 1 / 6  # of a box
GATHERING = 0.1  # of a box, kept free at its end for the report and the files
PATIENCE = 20.0  # seconds for what is interrupted to end by itself
AGAIN = 5.0  # seconds until it is interrupted again
REPORT = 30.0  # seconds that the report may take, however little of the box is left
TRAINED = (Pretrain.name, Unlearn.name, Attack.name)  # stages whose weights come out
FEWEST = 100  # pretraining steps
STEPS = "model.pretrain.max_steps"
FILES, BYTES = 8, 16 * 2**20  # that come out


@dataclass
class Box:
    """What the first box decided, for all later ones.

    Args:
        steps: of the pretraining.
        seconds: of one of them.
        asked: steps of the experiment, or of the first command.
        boxes: how many have begun.
        divisions: how each of them was meant to be spent, in words.
    """

    steps: int
    seconds: float
    asked: int | None = None
    boxes: int = 0
    divisions: list[str] = field(default_factory=list)


def from_scratch(plan: Plan, part: Part) -> bool:
    """Whether a part is trained like the original: the original, references, retraining."""
    if part.stage != Unlearn.name:
        return part.stage in (Pretrain.name, References.name)
    method = plan.configuration(part)[0].method["_target_"]
    return get_object(method).from_scratch


def seconds_per_step(run: Run) -> float:
    """Of the pretraining, on this device."""
    from unrelearn.fit import fit

    stamps: dict[int, float] = {}
    options = fit_options(run, log_row=lambda step, row: stamps.update({step: time.perf_counter()}))
    options.log_every_n_steps, options.checkpoint_every_n_steps = 10, MEASURED_TO
    stage = Pretrain(run)
    module = stage.fitted(replace(run.kind.pretraining(), max_steps=MEASURED_TO))
    with tempfile.TemporaryDirectory() as folder:
        fit(module, Path(folder), "measure a step", options)
    return (stamps[MEASURED_TO] - stamps[MEASURED_FROM]) / (MEASURED_TO - MEASURED_FROM)


def first_box(plan: Plan, minutes: float) -> Box:
    """How many pretraining steps fit.

    Raises:
        UsageError: too few.
    """
    run = Run(plan.cells.configuration(0), "")
    asked = run.cfg.model.pretrain.max_steps
    steps = {part.name: plan.cost(part).steps for part in plan.parts.values()}
    scratch = [part.name for part in plan.parts.values() if from_scratch(plan, part)]
    models = sum(steps[name] for name in scratch) / asked  # as many as the original is long
    seconds = seconds_per_step(run)
    fits = int(PRETRAINING * 60 * minutes / seconds / models)
    if fits < min(FEWEST, asked):
        needed = math.ceil(11 * FEWEST * seconds * models / PRETRAINING / 60) / 10  # and a tenth
        raise UsageError(
            f"--minutes={minutes:g}: half of it holds {fits} pretraining steps of {seconds:.3g} s"
            f" for {models:g} models; at least {FEWEST}. Type --minutes {needed} or more"
        )
    return Box(min(asked, fits // FEWEST * FEWEST or fits), seconds, asked)


def divided(plan: Plan, box: Box, minutes: float) -> str:
    """How a box is meant to be spent, in words."""
    parts = plan.parts.values()
    original = plan.cost(next(part for part in parts if part.stage == Pretrain.name))
    speed = box.seconds * original.steps / original.flops
    flops = [0.0] * len(plan.targets)
    for part in parts:
        if part.trains and not from_scratch(plan, part):
            flops[part.cell] += plan.cost(part).flops
    spent, fit = 0.0, 0
    for amount in flops:
        spent += amount * speed
        fit += spent <= CHANGING * 60 * minutes
    return (
        f"box {box.boxes} of {minutes:g} min: {PRETRAINING * minutes:.3g} min for"
        f" {box.steps:,} pretraining steps of {box.seconds:.3g} s, {CHANGING * minutes:.3g} for"
        f" unlearning and attacks (about {fit} of {len(flops)} runs),"
        f" {MEASURING * minutes:.3g} for measuring"
    )


def interruptible() -> None:
    """A shell that starts something in the background takes SIGINT away, from its children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def work(words: list[str], until: float) -> int:
    """Make the runs until the box ends; the exit code, 0 where the box ended them."""
    run = [sys.executable, str(ROOT / "run.py"), "-m", *words]
    process, code = subprocess.Popen(run, preexec_fn=interruptible), 0
    try:
        return process.wait(max(1.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        end(process)
    except KeyboardInterrupt:
        end(process)
        code = 130
    print("the box has ended; the same command goes on from here", flush=True)
    return code


def end(process: subprocess.Popen) -> None:
    """Interrupt it, and again: Python ignores what is raised while it deletes an object."""
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(AGAIN)
            return
    process.kill()
    process.wait()


# ---- what comes out ------------------------------------------------------------------------------


def in_pieces(file: Path, folder: Path) -> list[Path]:
    """The file itself, or its pieces of at most BYTES, numbered."""
    if file.stat().st_size <= BYTES:
        return [Path(shutil.move(file, folder / file.name))]
    pieces = []
    with file.open("rb") as whole:
        while chunk := whole.read(BYTES):
            pieces.append(folder / f"{file.name}.{len(pieces) + 1:03d}")
            pieces[-1].write_bytes(chunk)
    return pieces


def results(outputs: Path, work: Path, note: Path, seconds: float) -> Path:
    """results.zip: what the box decided, the records of all runs, a report over them if it is done
    in time, then the runs' pages; of these as many as fit in FILES files, the smallest first.
    """
    report, script = work / "report", ROOT / "scripts" / "report.py"
    words = [str(script), str(outputs / "runs"), "--out", str(report), "--figures"]
    try:
        run = [sys.executable, *words]
        subprocess.run(run, stdout=subprocess.DEVNULL, timeout=max(REPORT, seconds))
    except subprocess.TimeoutExpired:
        print(f"the report was not done in time. Type python {words[0]} {words[1]}")
    archive, size, left = work / "results.zip", 0, 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(note, "time_box.json")
        for file, name in sorted(_to_bring(outputs / "runs", report), key=_importance):
            size += file.stat().st_size  # more than it takes
            if size > FILES * BYTES:
                left += 1
            else:
                zipped.write(file, name)
    if left:
        print(f"{left} pages and figures have no room in {FILES} files and stay in {outputs}")
    return archive


def _to_bring(runs: Path, report: Path) -> Iterator[tuple[Path, str]]:
    """Files, and their names in results.zip."""
    for folder in (runs, report):
        for file in folder.rglob("*"):
            if file.is_file():
                yield file, f"{folder.name}/{file.relative_to(folder)}"


def _importance(entry: tuple[Path, str]) -> tuple[bool, int, str]:
    file, name = entry
    return file.name != "result.json", file.stat().st_size, name


def weights(outputs: Path, work: Path, limit: int) -> Path | None:
    """weights.zip of at most `limit` bytes: of finished models in bfloat16, with their config.json,
    the newest first.
    """
    import torch
    from safetensors.torch import load_file, save

    archive, size, left = work / "weights.zip", 0, 0
    store = outputs / "artifacts"
    files = [file for stage in TRAINED for file in (store / stage).glob("*/**/*.safetensors")]
    finished = [file for file in files if ".partial" not in file.as_posix()]
    whole = [file for file in finished if file.with_name("config.json").exists()]
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in sorted(whole, key=lambda file: -file.stat().st_mtime):
            tensors = {name: value.to(torch.bfloat16) for name, value in load_file(file).items()}
            data = save({name: value.contiguous() for name, value in tensors.items()})
            if size + len(data) + 2**16 > limit:
                left += 1
                continue
            size += len(data) + 2**16
            name = file.relative_to(store)
            zipped.writestr(str(name), data)
            zipped.write(file.with_name("config.json"), str(name.with_name("config.json")))
    if left:
        print(f"weights of {left} models have no room in {FILES} files and stay in {store}")
    return archive if size else None


def bring_home(outputs: Path, out: Path, note: Path, seconds: float) -> None:
    """Everything that is finished, in at most FILES files, with `seconds` left for it; the records
    before the weights.
    """
    with tempfile.TemporaryDirectory() as folder:
        work, ready = Path(folder), Path(folder) / "ready"
        ready.mkdir()
        pieces = in_pieces(results(outputs, work, note, seconds), ready)
        for earlier in filter(is_ours, out.iterdir()):
            earlier.unlink()  # pieces of an earlier box, which may have been more
        moved(pieces, out)
        if archive := weights(outputs, work, BYTES * (FILES - len(pieces))):
            moved(in_pieces(archive, ready), out)


def moved(pieces: list[Path], out: Path) -> None:
    for piece in pieces:
        there = Path(shutil.move(piece, out / piece.name))
        print(f"{there}  {there.stat().st_size / 2**20:.1f} MiB", flush=True)


def is_ours(file: Path) -> bool:
    """Whether a file in --out is of those that a box writes."""
    return re.fullmatch(r"(results|weights)\.zip(\.\d{3})?", file.name) is not None


def usable(out: Path) -> Path:
    """A folder that can be written into.

    Raises:
        UsageError: it can not.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            return out
    except OSError as error:
        raise UsageError(f"--out {out}: {error}. Type --out FOLDER with one of yours") from error


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = launch.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="of this box (default: 9)")
    parser.add_argument("--out", type=given, help="default: outputs/box/EXPERIMENT")
    parser.add_argument("experiment", help="one of conf/experiment/, with or without experiment=")
    parser.add_argument("overrides", nargs="*", help="as for run.py")
    return parser.parse_intermixed_args(arguments)


def earlier_box(note: Path, words: list[str]) -> Box:
    """What an earlier box wrote down.

    Raises:
        UsageError: it is damaged, or the command asks for another pretraining.
    """
    try:
        box = Box(**json.loads(note.read_text()))
    except (ValueError, TypeError) as error:
        instead = f"Type rm {note}, and a box measures anew"
        raise UsageError(f"{note}: is damaged ({error}). {instead}") from error
    known = [f"{STEPS}={steps}" for steps in (box.steps, box.asked)]
    other = [word for word in words if word.startswith(f"{STEPS}=") and word not in known]
    if other:
        instead = f"Type {known[0]}, or paths.outputs=FOLDER for boxes of their own"
        raise UsageError(f"{other[-1]}: the first box has fixed {box.steps}. {instead}")
    return box


def box_of(words: list[str], experiment: str, minutes: float) -> tuple[Plan, Box, Path]:
    """The runs, what the first box decided of them, and the file that says so.

    Raises:
        UsageError: what does not hold.
    """
    if "dry_run=true" in words:
        instead = f"Type python scripts/grid.py plan experiment={experiment}"
        raise UsageError(f"dry_run=true: a box measures on the device. {instead}")
    plan = Plan.of(words)
    originals = [part for part in plan.parts.values() if part.stage == Pretrain.name]
    if not any(plan.cost(part).steps for part in originals):
        raise UsageError(
            f"{experiment}: a box is divided by the steps of a pretraining, and this has none. Type"
            " cifar10_box, or another experiment of denoisers or classifiers, without"
            " model.checkpoint"
        )
    if len(originals) > 1:
        raise UsageError(
            f"{experiment}: {len(originals)} pretrainings, and a box has one. Type seed=0; later"
            " boxes may have other methods, rates, classes and relearning.seed"
        )
    note = plan.outputs / "time_box" / f"{experiment.replace('/', '_')}.json"
    box = earlier_box(note, words) if note.exists() else first_box(plan, minutes)
    box.boxes += 1
    plan = Plan.of([*words, f"{STEPS}={box.steps}"])
    box.divisions.append(divided(plan, box, minutes))
    write_json(note, asdict(box))
    return plan, box, note


def main(arguments: list[str] | None = None) -> int:
    started, options = time.monotonic(), parse(arguments)
    experiment = options.experiment.removeprefix("experiment=")
    words = [f"experiment={experiment}", *options.overrides]
    if not any(word.startswith("tracking") for word in words):
        words.append("tracking=none")
    try:
        if not 0 < options.minutes < float("inf"):
            raise UsageError(f"--minutes={options.minutes}: no length of a box. Type --minutes 9")
        out = usable(options.out or Path("outputs", "box", experiment.replace("/", "_")))
        plan, box, note = box_of(words, experiment, options.minutes)
    except UsageError as error:
        return launch.complain(error.problems)
    print(box.divisions[-1], flush=True)
    seconds = 60 * options.minutes
    code = work([*words, f"{STEPS}={box.steps}"], started + seconds * (1 - GATHERING))
    if any((plan.outputs / "runs").glob("*/result.json")):
        bring_home(plan.outputs, out, note, started + seconds - time.monotonic())
    else:
        print(
            f"no run has ended, and {out} holds nothing new. A later box goes on from"
            f" {plan.outputs}: where the machine is handed back, take that folder along"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
