"""What test_ddp.py runs in several processes: as a script under torchrun (several_processes.py
FOLDER), or forked.

Everything is written into the folder as <name>-<rank>.pt, for the test to look at.
"""

import atexit
import faulthandler
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import tiny
import torch

from unrelearn import distributed, launch
from unrelearn.attacks.dimra import DiMRA
from unrelearn.classification.classifier import new_classifier
from unrelearn.diffusion.inception import Inception
from unrelearn.diffusion.sampling import sample
from unrelearn.errors import UsageError
from unrelearn.evals import (
    agreement,
    fd_oracle,
    forget_accuracy,
    inception_score,
    kid,
    kid_oracle,
    retain_accuracy,
)
from unrelearn.evals.evidence import Observers, Predictions, gather_evidence
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.salun import SalUn

CHUNKS = (0, 1, 2, 3, 7, 10)
LOOKED_AT = (2, 130)  # fewer than three processes, and no multiple of them


class Stopped(Exception):
    pass


def pretraining():
    return tiny.pretraining(max_steps=20)


def dimum():
    return tiny.denoising(
        DiMUM(memory="fixed_k", max_steps=20, batch_size=12, learning_rate=3e-4), tiny.new_task()
    )


def salun():
    return tiny.denoising(
        SalUn(
            retain_weight=3.0,
            saliency_fraction=0.5,
            saliency_guidance_scale=3.0,
            max_steps=5,
            batch_size=12,
            learning_rate=3e-4,
        ),
        tiny.new_task(),
    )


def dimra(steps: int = 9):
    return tiny.denoising(
        DiMRA(budgets=[0, steps], batch_size=12, learning_rate=1e-3), tiny.new_task()
    )


def classifier():
    return tiny.classifier_training(20)


TRAININGS = (pretraining, dimum, salun, classifier)
IN_PASSES = (pretraining, dimra)


def sights(count: int, inception: Inception) -> tuple[Predictions, dict]:
    """What is seen in so many images, and what is measured on them: of the whole, in each process.
    FID is a function of the same features as KID; its roots of 2048 x 2048 would take a minute.
    """
    images, labels = tiny.digits(30).images, torch.arange(300) % 10
    held_out = new_classifier(
        4, architecture="residual", image_size=8, channels=1, num_classes=10, width=8
    ).eval()
    observers = Observers(tiny.new_oracle(), held_out, inception, stretch=True)
    seen = observers.look(images[:count], labels[:count])
    found = gather_evidence(
        {
            "forget/1.0": images[:count],
            "forget/1.0/labels": labels[:count],
            "retain/2.0": images[-count:],
            "retain/2.0/labels": labels[-count:],
        },
        seen,
        seen,
        [7],
        observers,
    )
    return seen, {
        name: module.run(found)
        for name, module in (
            ("forget_accuracy", forget_accuracy),
            ("retain_accuracy", retain_accuracy),
            ("agreement", agreement),
            ("fd_oracle", fd_oracle),
            ("kid_oracle", kid_oracle),
            ("kid", kid),
            ("inception_score", inception_score),
        )
    }


def record(module) -> dict:
    return {
        "weights": module.state_dict(),
        "rows": module.rows,
        "mask": module.mask or {},
        "average": module.ema.shadow_params if module.ema is not None else [],
    }


def images_of(count: int) -> torch.Tensor:
    """As the pipeline samples: each process draws its share, all of them get the whole."""
    labels = torch.arange(count) % 11
    part = distributed.my_slice(count)
    images = sample(
        tiny.network(),
        labels[part],
        schedule=tiny.SCHEDULE,
        num_inference_steps=3,
        seed=1,
        guidance_scale=2.0,
        first=part.start,
    )
    return distributed.gather(images)


def training(folder: Path) -> None:
    rank = distributed.rank()
    for make in TRAININGS:
        module = tiny.train(make(), folder / make.__name__)
        torch.save(record(module), folder / f"{make.__name__}-{rank}.pt")
    for make in IN_PASSES:  # of 12 images, each process has 6 and takes 3 at a time
        module = tiny.train(make(), folder / f"{make.__name__}-passes", batch_size_per_device=3)
        torch.save(record(module), folder / f"{make.__name__}-passes-{rank}.pt")
    torch.save(
        tiny.tensors(dimum().draw("retain", tiny.new_task().retain)), folder / f"draw-{rank}.pt"
    )

    def stop(step: int, row: dict) -> None:
        if step == 15:
            raise Stopped

    try:
        tiny.train(dimum(), folder / "stopped", log_row=stop, checkpoint_every_n_steps=10)
    except Stopped:
        torch.save(True, folder / f"stopped-{rank}.pt")


def sharding(folder: Path, rank: int, processes: int) -> None:
    """Everything that is cut into shares, as one of several processes sees it."""
    if processes > 1:
        torch.distributed.init_process_group(
            "gloo", f"file://{folder}/meet", rank=rank, world_size=processes
        )
    slices = {n: distributed.my_slice(n) for n in CHUNKS}
    gathered = {
        n: distributed.gather(torch.arange(2 * n).view(n, 2)[part]) for n, part in slices.items()
    }

    def refuse() -> None:
        raise UsageError(
            "only the first process sees this" if rank == 0 else "another process was asked"
        )

    try:
        distributed.on_main(refuse)
    except UsageError as error:
        problems = error.problems
    network = Inception(folder / "inception.pt", "cpu")
    seen_in = {count: sights(count, network) for count in LOOKED_AT}
    torch.save(
        {
            "slices": {n: (s.start, s.stop) for n, s in slices.items()},
            "gathered": gathered,
            "problems": problems,
            "decided": distributed.on_main(distributed.rank),
            "images": {n: images_of(n) for n in (2, 7)},
            "sights": {n: (vars(seen), metrics) for n, (seen, metrics) in seen_in.items()},
        },
        folder / f"{rank}.pt",
    )


def ended(folder: Path, rank: int) -> None:
    torch.save(torch.distributed.is_initialized(), folder / f"ended-{rank}.pt")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(150)  # where each of them is, should they wait for each other
    atexit.register(lambda: ended(Path(sys.argv[1]), int(os.environ["RANK"])))
    with launch.job():
        launch.processes(
            SimpleNamespace(threads=1, devices=1, accelerator="cpu", timeout_minutes=60)
        )
        training(Path(sys.argv[1]))
