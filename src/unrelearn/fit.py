"""Run a training: how, with what recorded on the way, and on from where it was stopped."""

import contextlib
import itertools
import logging
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.artifact import RESUME
from unrelearn.errors import UsageError
from unrelearn.training import Training

for noisy in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(noisy).setLevel(logging.WARNING)


@dataclass
class FitOptions:
    """How a run is executed; nothing here is part of an artefact's key, except that `precision` is
    hashed by its stage.

    Args:
        batch_size_per_device: largest part of a term's batch in one pass; a step of more is done in
            several passes whose gradients are averaged (None: always one pass).
        snapshots: steps after which `on_snapshot(step)` is called.
        log_row: called with (step, {name: value}) for each recorded row.
    """

    precision: str = "32-true"
    accelerator: str = "auto"
    channels_last: bool = False
    compile: bool = False
    batch_size_per_device: int | None = None
    checkpoint_every_n_steps: int = 100
    log_every_n_steps: int = 10
    snapshots: list[int] = field(default_factory=list)
    on_snapshot: Callable[[int], None] = lambda step: None
    log_row: Callable[[int, dict], None] = lambda step, row: None


class Recorder(Callback):
    """Progress bar, loss rows, divergence, snapshots and the checkpoint that a killed run continues
    from.
    """

    def __init__(self, folder: Path, description: str, options: FitOptions):
        self.checkpoint = folder / RESUME / "last.ckpt"
        self.description, self.options = description, options
        self.seconds = 0.0
        self.sums: dict[str, Tensor] = {}

    def state_dict(self) -> dict:
        return {
            "seconds": self.seconds + time.monotonic() - self.started,
            "sums": self.sums,
            "threads": torch.get_num_threads(),
        }

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self.sums = state["seconds"], state["sums"]
        before, now = state.get("threads"), torch.get_num_threads()
        if before not in (None, now):  # sums have another order
            progress.say(
                f"warning: {self.description}: was begun with {before} threads and goes on with"
                f" {now}: its last bits may differ from those of a run in one piece. Type"
                f" trainer.threads={before} for the same"
            )

    def on_train_start(self, trainer: L.Trainer, module: Training) -> None:
        self.started = time.monotonic()
        self.shown = trainer.global_step
        self.stack = contextlib.ExitStack()
        self.advance = self.stack.enter_context(
            progress.bar(self.description, module.method.max_steps, done=self.shown)
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        for name, value in module.last_losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value / trainer.accumulate_grad_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if step % self.options.log_every_n_steps == 0 or step == module.method.max_steps:
            self.record(trainer, module, step)
        if (
            step in self.options.snapshots or step == module.method.max_steps or trainer.should_stop
        ) and not all(
            bool(p.isfinite().all()) for p in module.parameters()
        ):  # not every broken step has a row of its own
            module.diverged_at, trainer.should_stop = module.diverged_at or step, True
        if module.diverged_at is not None:
            return
        if step in self.options.snapshots:
            self.options.on_snapshot(step)
        if (
            step % self.options.checkpoint_every_n_steps == 0
            and step < module.method.max_steps
            and not trainer.should_stop
        ):
            # written aside and renamed: a kill in the middle leaves the previous checkpoint whole
            aside = self.checkpoint.with_suffix(".writing")
            trainer.save_checkpoint(aside)
            if trainer.is_global_zero:
                os.replace(aside, self.checkpoint)

    def record(self, trainer: L.Trainer, module: Training, step: int) -> None:
        count = step - (module.rows[-1]["step"] if module.rows else 0)
        means = torch.stack(list(self.sums.values())) / count
        if trainer.world_size > 1:
            means = trainer.strategy.reduce(means, reduce_op="mean")
        row = dict(zip(self.sums, means.tolist(), strict=True))
        self.sums = {}
        module.rows.append({"step": step, **row})
        self.options.log_row(step, row)
        note = "  ".join(f"{name} {value:.4f}" for name, value in row.items())
        self.advance(step - self.shown, note=note)
        self.shown = step
        if not all(math.isfinite(value) for value in row.values()):
            module.diverged_at = step
            trainer.should_stop = True
        elif module.method.converged(module):
            steps = f"{step} of {module.method.max_steps} steps"
            progress.say(f"{self.description}: converged after {steps}")
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, module: Training) -> None:
        self.seconds += time.monotonic() - self.started
        self.stack.close()

    def on_exception(self, trainer, module, exception) -> None:
        if hasattr(self, "stack"):
            self.stack.close()


def fit(module: Training, folder: Path, description: str, options: FitOptions) -> dict:
    """Run a training to its last step, or on from its last checkpoint in the folder, and return
    {"seconds", "diverged_at"}; the seconds are those of what the method prepares, too.
    """
    network = module.network
    if options.channels_last:
        network.to(memory_format=torch.channels_last)
    if options.compile:
        network.compile()
    if module.method.max_steps == 0:
        module.to(next(network.parameters()).device)  # buffers too
        return {"seconds": prepare(module), "diverged_at": None}
    module.accumulate = passes_of_a_step(module, options)
    recorder = Recorder(folder, description, options)
    with warnings.catch_warnings():
        told = ".*(does not have many workers|srun|isinstance.*LeafSpec).*"
        warnings.filterwarnings("ignore", message=told)
        trainer = new_trainer(module, options, recorder)
        module.to(trainer.strategy.root_device)
        prepared = prepare(module)
        resume = recorder.checkpoint if recorder.checkpoint.exists() else None
        try:
            trainer.fit(module, itertools.repeat(0), ckpt_path=resume)
        except SystemExit as ended:  # Lightning's answer to Ctrl-C
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    return {"seconds": prepared + recorder.seconds, "diverged_at": module.diverged_at}


def prepare(module: Training) -> float:
    """The seconds it took."""
    started = time.monotonic()
    module.prepare()
    return time.monotonic() - started


def passes_of_a_step(module: Training, options: FitOptions) -> int:
    """How many passes a step takes so that each fits the device.

    Raises:
        UsageError: the method needs the gradient of a whole step.
    """
    passes, method = 1, module.method
    if options.batch_size_per_device:
        share = method.batch_size // distributed.world_size()
        fits = (n for n in range(1, share + 1) if share % n == 0)
        passes = next(n for n in fits if share // n <= options.batch_size_per_device)
    combines = module.combiner is not None
    whole = combines or method.whole_steps
    if (combines and options.precision == "16-mixed") or (passes > 1 and whole):
        raise UsageError(
            f"{type(method).__name__}, method.combine={method.combine}: needs a whole step at once,"
            " unscaled. Type trainer.batch_size_per_device=null precision=bf16-mixed"
        )
    return passes


def new_trainer(module: Training, options: FitOptions, recorder: Recorder) -> L.Trainer:
    world = distributed.world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if world > 1 else 1
    return L.Trainer(
        max_steps=module.method.max_steps,
        max_epochs=-1,
        accelerator=options.accelerator,
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        # the processes are there, whoever started them: Lightning must not look for Slurm, which it
        # has rules for
        plugins=[TorchElasticEnvironment() if world > 1 else LightningEnvironment()],
        precision=options.precision,
        accumulate_grad_batches=module.accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
        num_sanity_val_steps=0,
    )
