"""Training: a method's losses become steps of an optimiser.

`Training` owns the optimiser, masks, the combination of gradients, the average, passes and
resuming; it knows no kind of model. What a batch is and what the loss of one is, a subclass says
(`diffusion.denoising.Denoising`).
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from unrelearn import distributed, masks, optimizers, randomness
from unrelearn.advice import shown, typed
from unrelearn.batches import Batches
from unrelearn.errors import UsageError
from unrelearn.masks import Mask
from unrelearn.method import Edit, Method
from unrelearn.task import Task


def total(losses: Iterable[Tensor]) -> Tensor:
    return reduce(add, losses)


def checked(method: Method, losses: object) -> dict[str, Tensor]:
    """What `losses` of a method returned.

    Raises:
        UsageError: it is no dict of losses, or none of them depends on a weight.
    """
    if isinstance(losses, dict) and losses:
        numbers = [n for n, one in losses.items() if isinstance(one, Tensor) and one.ndim == 0]
        odd = {name: one for name, one in losses.items() if name not in numbers}
        if not odd and any(one.requires_grad for one in losses.values()):
            return losses
        got = ", ".join(f"{name}: {_described(one)}" for name, one in (odd or losses).items())
        got += "" if odd else ", of which none depends on a weight"
    else:
        got = _described(losses)
    raise UsageError(
        f"{type(method).__name__}.losses must return a dict of tensors with one number each, got"
        f" {got}. End it with return {{'forget': loss.mean()}}"
    )


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return shown(repr(value))[:80]


def chosen_of(method: Method, movable: list[str]) -> set[str]:
    """Names of the parameters that move; UsageError: none does."""
    if chosen := {name for name in movable if name.startswith(tuple(method.blocks or [""]))}:
        return chosen
    raise UsageError(
        no_such_block("attack" if method.attacks else "method", method.blocks, movable)
    )


def no_such_block(group: str, blocks: object, movable: list[str]) -> str:
    """What to type in place of beginnings that no parameter's name has."""
    known, key = list(dict.fromkeys(name.partition(".")[0] for name in movable)), f"{group}.blocks"
    return (
        f"{key}={blocks}: no parameter that may move begins so; allowed: {', '.join(known)}. Type"
        f" {typed({f'+{key}': known[:1]})}"
    )


class Training(Batches):
    """Train `task.network` by the sum of `method.losses(self)`.

    Attributes: rows: the loss curve, one row every `log_every_n_steps`. mask: weights that may
        move, parameter name -> bool; None: all.
    """

    grad_clip = 1.0  # where the method says none

    def __init__(self, method: Method, task: Task):
        super().__init__()
        self.method, self.task = method, task.with_seed(method.own_seed)
        self.network = task.network
        self.mask: Mask | None = None
        self.ema: EMAModel | None = None
        self.rows: list[dict[str, float]] = []
        self.diverged_at: int | None = None
        self._freeze_all_but_chosen()
        self.begin()

    def may_move(self, name: str) -> bool:
        """Whether a parameter of this name may, as far as its kind of network says."""
        return True

    def _freeze_all_but_chosen(self) -> None:
        movable = [name for name, _ in self.network.named_parameters() if self.may_move(name)]
        chosen = chosen_of(self.method, movable)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in chosen)

    # its course

    def begin(self) -> None:
        """Before anything is made of the network."""
        self.method.begin(self)

    def prepare(self) -> None:
        """Called once on the training device before the first step, also when a run is resumed."""
        method, task = self.method, self.task
        if method.saliency_fraction is not None and method.max_steps:
            self.mask = self.salient(method.saliency_fraction)
        if method.fisher_ratio is not None and method.max_steps:
            trained = [name for name, p in self.network.named_parameters() if p.requires_grad]
            forget, retain = (
                self.fisher(data, images=name, forget=task.name_of_forgotten)
                for name, data in (("forget", task.forget), ("retain", task.retain))
            )
            ratio = masks.fisher_ratio(forget, retain, method.fisher_ratio, trained)
            self.mask = masks.both(ratio, self.mask)
        method.prepare(self)

    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        # dropout reads the global generator; the seed names the part of the batch, as each part
        # holds other images
        self.micro = batch_idx % self.accumulate
        part = distributed.rank() * self.accumulate + self.micro
        identity = (self.task.seed, self.method.stage, "dropout", self.step, part)
        randomness.reseed(randomness.generator_for(*identity).initial_seed(), self.device)
        losses = checked(self.method, self.method.losses(self))
        self.last_losses = {name: value.detach() for name, value in losses.items()}
        combine = self.method.combine
        if combine == "sum" and self.combiner is None:
            return total(losses.values())
        if "retain" not in losses or len(losses) < 2:
            raise UsageError(
                f"method.combine={combine}: {type(self.method).__name__} has no two losses to"
                f" combine ({', '.join(losses)}). Type method.combine=sum"
            )
        forget = total(value for name, value in losses.items() if name != "retain")
        self.parts = (forget, losses["retain"])
        return self.parts[self.step % 2] if combine == "alternation" else total(self.parts)

    @property
    def combiner(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        return self.method.combiner

    def backward(self, loss: Tensor, *arguments: Any, **keywords: Any) -> None:
        if self.combiner is None:
            super().backward(loss, *arguments, **keywords)
            return
        parameters = [p for _, p in self.trained]
        gradients = []
        for part in self.parts:
            grads = torch.autograd.grad(part, parameters, retain_graph=True, materialize_grads=True)
            gradients.append(distributed.mean(torch.cat([g.flatten() for g in grads])))
        combined = self.combiner(*gradients).split([p.numel() for p in parameters])
        for parameter, gradient in zip(parameters, combined, strict=True):
            # laid out like its weight, or the fused step pairs them wrongly
            parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))

    def new_optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        # a fused step unscales float16 gradients itself, after they were clipped
        fused = self.trainer.precision != "16-mixed"
        method = self.method
        return optimizers.build(method.optimizer, parameters, method.learning_rate, fused)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[dict[str, Any]]]:
        # listed once: walking the module tree in every step costs more than clipping does
        self.everything = list(self.network.parameters())
        self.trained = [(name, p) for name, p in self.network.named_parameters() if p.requires_grad]
        optimizer = self.new_optimizer([p for _, p in self.trained])
        method = self.method
        schedule = optimizers.schedule(method.lr_schedule, optimizer, method.max_steps)
        return [optimizer], [{"scheduler": one, "interval": "step"} for one in schedule]

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if self.method.clips_masked:
            masks.apply(self.moving, self.trained)
        limit = self.method.grad_clip or self.grad_clip
        if self.method.optimizer != "relative" and math.isfinite(limit):
            clip_grad_norm_([p for _, p in self.trained], limit, foreach=True)
        if not self.method.clips_masked:  # clipped first and masked second, as in SalUn's code
            masks.apply(self.moving, self.trained)

    def optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        self.moving = self.method.moving(self)
        with masks.held(self.moving, self.trained):
            super().optimizer_step(*arguments, **keywords)
            with torch.no_grad():
                self.method.after_step(self)
        # in on_train_batch_end a checkpoint would lack this step
        if self.ema is not None:
            self.ema.step(self.everything)

    def on_fit_start(self) -> None:
        self.network.train()
        if self.method.ema_decay is not None:
            self.ema = self.ema or self._average()
            self.ema.to(self.device)

    def _average(self) -> EMAModel:
        return EMAModel(self.network.parameters(), decay=self.method.ema_decay, foreach=True)

    def on_train_start(self) -> None:
        if self.combiner is not None and distributed.world_size() > 1:
            # each part is averaged before they are combined
            self.trainer.strategy.model.require_backward_grad_sync = False
        # a checkpoint may come from another channels_last
        for parameter, state in self.optimizers(use_pl_optimizer=False).state.items():
            for name, value in state.items():
                if value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter).copy_(value)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        average = None if self.ema is None else self.ema.state_dict()
        checkpoint["unrelearn"] = {"rows": self.rows, "ema": average}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rows = checkpoint["unrelearn"]["rows"]
        # Lightning counts passes, of which a step may now take another number than before
        passes = checkpoint["global_step"] * self.accumulate
        for counter in ("total", "current"):
            counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"][counter]
            counts.update({name: passes for name in counts})
        if self.method.ema_decay is not None:
            self.ema = self._average()
            self.ema.load_state_dict(checkpoint["unrelearn"]["ema"])

    # what comes of it

    def save(self, folder: Path) -> str:
        """Write raw/ and, where an average is kept, ema/; return the label of the one that is the
        model.
        """
        self.write(self.method.exported(self.network), folder / "raw")
        self.method.write_beside(folder)
        if self.ema is None:
            return "raw"
        with self.averaged():
            self.write(self.method.exported(self.network), folder / "ema")
        return "ema"

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The EMA weights in place of the raw ones, for the time of the block."""
        assert self.ema is not None
        self.ema.store(self.network.parameters())
        self.ema.copy_to(self.network.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.network.parameters())

    @contextlib.contextmanager
    def edited(self, level: float) -> Iterator[None]:
        """The network edited at this level, for the time of the block."""
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        assert isinstance(self.method, Edit)
        with torch.no_grad():
            self.rows.append({"step": level, **self.method.edit(self, level)})
        try:
            yield
        finally:
            self.network.load_state_dict(before)
