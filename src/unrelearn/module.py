"""Training: one LightningModule from which pretraining, every unlearning method and every attack
derive.

A subclass says which losses a step has (`losses`), and nothing else; the optimiser, frozen
parameters, EMA, noise, resuming and recording are here. All randomness of step k is a function of
(seed, stage, term, k) and is drawn for the
whole global batch, of which each process takes its slice: one process or eight, interrupted or not,
the same run. (The per-step reseeding is the habit of NVlabs/edm2.)
"""

import contextlib
import copy
import itertools
import logging
import math
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import lightning as L
import torch
from diffusers.training_utils import EMAModel
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from unrelearn import distributed, fisher, masks, progress, randomness
from unrelearn.advice import typed
from unrelearn.artifact import RESUME
from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.errors import UsageError
from unrelearn.gradients import COMBINERS
from unrelearn.optimizers import RelativeAdam

_READER = ThreadPoolExecutor(
    1, "images"
)  # one thread: reading ahead must not take the cores of the step

for noisy in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(noisy).setLevel(logging.WARNING)


def _no_original() -> denoisers.Denoiser:
    raise UsageError(
        "Task.original: this attack compares with the original model, which nobody has given it. "
        "Type Task(..., original=lambda: NETWORK)"
    )


@dataclass
class Task:
    """What a method or an attack is given.

    Args: denoiser: the network to be changed in place. schedule: the noise schedule, keyword
        arguments of diffusers' DDPMScheduler. forget, retain: D_f and D_r, on the training device,
        or where they were if they do not fit there. forget_classes: labels in D_f. class_names: one
        per label. seed: of the run; of an attack with a seed of its own both, "0/1".
        horizontal_flip: whether training images are flipped at random, as in pretraining. oracle:
        the classifier, for methods that ask for it (`needs_oracle`); never the held-out one.
        loss_reduction: "mean" over all elements, or "sum" over an image's, then the mean over the
        batch: C*H*W times as
            much, which matters where gradients are clipped.
        antithetic: draw t for one half of a batch and give the other half T - 1 - t.
        counterparts: forgotten label -> the label of its counterpart, for data sets that have one
            (CelebA).
        cached: (name, settings, compute) -> compute(), named tensors that are computed once for
            this starting model and these settings and then kept; for what is dear and the same in
            many runs, such as a Fisher information.
        original: () -> the original model's network, a new copy; for attacks whose attacker has it.
    """

    denoiser: denoisers.Denoiser
    schedule: dict
    forget: ImageSet
    retain: ImageSet
    forget_classes: list[int]
    class_names: tuple[str, ...]
    seed: int | str
    horizontal_flip: bool = False
    oracle: torch.nn.Module | None = None
    loss_reduction: str = "mean"
    antithetic: bool = False
    counterparts: dict[int, int] = field(default_factory=dict)
    cached: Callable[[str, dict, Callable[[], dict[str, Tensor]]], dict[str, Tensor]] = (
        lambda name, settings, compute: compute()
    )
    original: Callable[[], denoisers.Denoiser] = _no_original

    @property
    def retain_classes(self) -> list[int]:
        return [c for c in range(len(self.class_names)) if c not in self.forget_classes]

    def other_class(self, forget_class: int) -> int:
        """The next retained label after forget_class, cyclically: SalUn's pseudo label, (c_f + 1)
        mod K.
        """
        k = len(self.class_names)
        return next(
            c % k
            for c in range(forget_class + 1, forget_class + k)
            if c % k not in self.forget_classes
        )

    def part_of_retain(self, fraction: float) -> ImageSet:
        """The share of D_r that an attacker holds, in (0, 1]: at least one image; a smaller share
        is part of a larger one.
        """
        order = torch.randperm(
            len(self.retain), generator=randomness.generator_for(self.seed, "attacker's data")
        )
        return self.retain.take(
            order[: max(1, round(fraction * len(order)))].to(self.retain.labels.device)
        )

    def shots(self, num_images: int) -> ImageSet:
        """The real images of each forgotten class that an attacker holds, class after class:
        num_images, or all there are.
        """
        shots = []
        for c in self.forget_classes:
            images = self.forget.of_classes([c])
            order = torch.randperm(
                len(images), generator=randomness.generator_for(self.seed, "attacker's data", c)
            )
            shots.append(images.take(order[:num_images].to(images.labels.device)))
        return ImageSet.join(shots)


@dataclass
class Batch:
    """This process's slice of a global batch: x_0 (B, C, H, W) in [-1, 1], labels and t (B,), noise
    like x_0.
    """

    x_0: Tensor
    labels: Tensor
    noise: Tensor
    t: Tensor


class DiffusionModule(L.LightningModule):
    """Train `task.denoiser` by the sum of `losses()`.

    Args: task: what is trained, and on what. max_steps: optimiser steps. batch_size: global batch
        of each term of the loss. learning_rate: of Adam (betas 0.9, 0.999; no weight decay, which
        would move masked weights). optimizer: "adam", or "relative": its direction, with steps that
        are a share of the weights' size; see `optimizers`. label_dropout: share of labels replaced
        by the null label in denoising terms. train_class_embedding: False freezes the whole class
        table, as a frozen text encoder would be. grad_clip: largest gradient norm. Not read by
        optimizer="relative": the norm depends on the units of the weights. lr_schedule: "constant",
        "one_cycle" (Smith & Topin 2017, arXiv 1708.07120), or "cosine", half a period from the
        learning
            rate to 0 at max_steps (Loshchilov & Hutter 2017, arXiv 1608.03983, without restarts).
        ema_decay: keep an exponential moving average by diffusers' formula min(decay, (1 + n) / (10
            + n)).
        saliency_fraction: share of all trainable weights that may move, the most salient for the
            forget set; None: all.
        saliency_guidance_scale: guidance of the prediction whose gradient ranks the weights; see
            `masks.saliency`.
        fisher_ratio: only weights may move whose Fisher information for the forget set is more than
            so many times that for the retain set; None: all. Both masks together: the weights in
            both.
        fisher_samples: images, each at one time with one noise, from which a Fisher information is
            estimated.
        blocks: beginnings of the names of the parameters that may move, e.g. ["up_blocks",
            "mid_block"]; None: all.
        divergence_alpha, divergence_scale: how two predictions are compared where one is to match
            the other; see `maths.divergence`. None: the mean squared error.
        combine: how the gradient of the loss named "retain" and that of all others become one step;
            see `gradients`.
        stage: names the random streams.
    """

    passes = (1, 0)  # batches a step sends through the network: forward and backward, forward only
    # True: the loss is no mean over images, so that a step can not be done in several passes
    whole_steps = False
    identity = (
        False  # True: the model passes through unchanged and no artefact of this stage is made
    )

    def __init__(
        self,
        task: Task,
        *,
        max_steps: int,
        batch_size: int,
        learning_rate: float,
        label_dropout: float = 0.1,
        train_class_embedding: bool = False,
        grad_clip: float = 1.0,
        optimizer: Literal["adam", "relative"] = "adam",
        lr_schedule: str = "constant",
        ema_decay: float | None = None,
        saliency_fraction: float | None = None,
        saliency_guidance_scale: float = 3.0,
        fisher_ratio: float | None = None,
        fisher_samples: int = 1000,
        blocks: list[str] | None = None,
        divergence_alpha: float | None = None,
        divergence_scale: float = 1.0,
        combine: Literal["sum", "projection", "bargaining", "harmonic", "alternation"] = "sum",
        stage: str = "unlearn",
    ):
        super().__init__()
        self.task = task
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.label_dropout = label_dropout
        self.grad_clip = grad_clip
        self.optimizer, self.lr_schedule = optimizer, lr_schedule
        self.ema_decay = ema_decay
        self.saliency_fraction = saliency_fraction
        self.saliency_guidance_scale = saliency_guidance_scale
        self.fisher_ratio, self.fisher_samples = fisher_ratio, fisher_samples
        self.divergence_alpha, self.divergence_scale = divergence_alpha, divergence_scale
        self.combine = combine
        self.combiner = COMBINERS.get(combine)  # (g_f, g_r) -> gradient; a method may have its own
        self.stage = stage
        self.denoiser = task.denoiser
        for name, parameter in self.denoiser.named_parameters():
            parameter.requires_grad_(blocks is None or name.startswith(tuple(blocks)))
        if not any(p.requires_grad for p in self.denoiser.parameters()):
            known = dict.fromkeys(
                name.split(".")[0] for name, _ in self.denoiser.named_parameters()
            )
            raise UsageError(
                f"{stage}: blocks={blocks}: no parameter begins so; allowed: {', '.join(known)}. "
                f"Type {typed({'method.blocks': [next(iter(known))]})}"
            )
        self.denoiser.class_embedding.requires_grad_(train_class_embedding)
        self.gradient_mask: dict[
            str, Tensor
        ] = {}  # parameter name -> bool; False entries never move
        self.accumulate, self.micro = (
            1,
            0,
        )  # forward passes in which a step is done, and which of them this one is
        self.loss_scale = (
            math.prod(task.retain.images.shape[1:]) if task.loss_reduction == "sum" else 1
        )
        self.reading: dict[str, tuple] = {}  # term -> (what for, images on their way from the host)
        self.rows: list[dict] = []  # the loss curve, one row every `log_every_n_steps`
        self.diverged_at: int | None = None
        self.register_buffer(
            "alphas_cumprod",
            maths.alphas_cumprod(
                task.schedule["num_train_timesteps"],
                task.schedule["beta_start"],
                task.schedule["beta_end"],
            ),
            persistent=False,
        )

    @staticmethod
    def needs_oracle(**arguments) -> bool:
        """Whether a method with these yaml arguments reads the oracle, which is then a parent of
        its artefact.
        """
        return False

    @staticmethod
    def steps(**arguments) -> int:
        """How many optimiser steps these yaml arguments ask for."""
        return arguments["budgets"][-1] if "budgets" in arguments else arguments.get("max_steps", 0)

    def losses(self) -> dict[str, Tensor]:
        """The terms of this step's loss, already weighted."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Called once on the training device before the first step, also when a run is resumed."""
        if self.saliency_fraction is not None:
            self.gradient_mask = self.salient(self.saliency_fraction)
        if self.fisher_ratio is not None:
            mask = masks.fisher_ratio(self, self.fisher_ratio)
            self.gradient_mask = {
                name: part & self.gradient_mask.get(name, True) for name, part in mask.items()
            }

    def salient(self, fraction: float, **how) -> dict[str, Tensor]:
        """The weights that matter most for the forget set: parameter name -> bool. See
        `masks.saliency`.
        """
        return masks.saliency(self, fraction, self.saliency_guidance_scale, **how)

    def fisher(self, data: ImageSet, **source) -> dict[str, Tensor]:
        """The Fisher information of every weight of the starting model, which the network must
        still be, for some images.

        source: what the images are; with the number of samples it names what is kept. See
            `fisher.diagonal`.
        """
        task, n = self.task, self.fisher_samples
        return task.cached(
            "fisher",
            {**source, "samples": n},
            lambda: fisher.diagonal(self.denoiser, data, n, task.schedule, task.seed),
        )

    def converged(self) -> bool:
        """Called after each recorded row: True ends the run before max_steps."""
        return False

    def draw(self, term: str, data: ImageSet, *, label_dropout: float | None = None) -> Batch:
        """This step's batch for one term: images drawn with replacement, times, noise, flips and
        dropped labels.
        """
        n, device, steps = self.batch_size, self.device, self.task.schedule["num_train_timesteps"]
        identity = (self.task.seed, self.stage, term, self.global_step)
        g = randomness.generator_for(*identity)
        index = torch.randint(
            len(data), (n,), generator=g
        )  # on the CPU, where images that do not fit the device are
        if device.type != "cpu":
            g = randomness.generator_for(*identity, device=device)
        t = torch.randint(steps, (n,), generator=g, device=device)
        if self.task.antithetic:
            t = torch.cat([t[: -(-n // 2)], steps - 1 - t[: n // 2]])
        noise = torch.randn((n, *data.images.shape[1:]), generator=g, device=device)
        uniform, flip = torch.rand((2, n), generator=g, device=device)
        mine = self._mine(self.micro)
        index, t, noise, uniform, flip = (
            index[mine],
            t[mine],
            noise[mine],
            uniform[mine],
            flip[mine],
        )
        if isinstance(data.images, Tensor) and data.images.device == device:
            images = data.images[index.to(device)]
        else:
            images = self._read(term, data, index).to(device, non_blocking=True)
        x_0, labels = to_model_range(images), data.labels[index.to(data.labels.device)].to(device)
        if self.task.horizontal_flip:
            x_0 = torch.where(flip.view(-1, 1, 1, 1) < 0.5, x_0.flip(-1), x_0)
        dropout = self.label_dropout if label_dropout is None else label_dropout
        return Batch(
            x_0,
            maths.drop_labels(labels, uniform, dropout, len(self.task.class_names)),
            noise,
            t,
        )

    def _mine(self, micro: int) -> slice:
        """This process's part of the global batch in one of the passes that make up a step."""
        share = distributed.my_slice(self.batch_size)
        size = (share.stop - share.start) // self.accumulate
        return slice(share.start + micro * size, share.start + (micro + 1) * size)

    def _read(self, term: str, data: ImageSet, index: Tensor) -> Tensor:
        """Images from the host's memory or disk. A thread has read them during the last step, and
        reads the next now.
        """

        def fetch(index: Tensor) -> Tensor:
            images = data.images[index]
            return images.pin_memory() if self.device.type == "cuda" else images

        now = (data, self.global_step, self.micro)
        waiting, arriving = self.reading.pop(term, (None, None))
        images = arriving.result() if waiting == now else fetch(index)
        step, micro = (
            (self.global_step, self.micro + 1)
            if self.micro + 1 < self.accumulate
            else (self.global_step + 1, 0)
        )
        g = randomness.generator_for(self.task.seed, self.stage, term, step)
        following = torch.randint(len(data), (self.batch_size,), generator=g)[self._mine(micro)]
        self.reading[term] = ((data, step, micro), _READER.submit(fetch, following))
        return images

    def noised(self, batch: Batch) -> Tensor:
        return maths.add_noise(batch.x_0, batch.noise, batch.t, self.alphas_cumprod)

    def denoising_losses(self, **batches: Batch) -> dict[str, Tensor]:
        """Squared error of the denoising target for each batch, reduced as the task says, in one
        forward pass. DDPM Eq. 14.
        """
        parts = list(batches.values())
        x_t = torch.cat([self.noised(b) for b in parts])
        t, labels = torch.cat([b.t for b in parts]), torch.cat([b.labels for b in parts])
        output = denoisers.predict(self.denoiser, x_t, t, labels).float()
        kind = self.task.schedule["prediction_type"]
        wanted = torch.cat(
            [maths.target(b.x_0, b.noise, b.t, self.alphas_cumprod, kind) for b in parts]
        )
        squared = (output - wanted).square().split([len(b.t) for b in parts])
        return {
            name: self.loss_scale * part.mean() for name, part in zip(batches, squared, strict=True)
        }

    def matching_loss(self, answer: Tensor, wanted: Tensor) -> Tensor:
        """How far predictions (B, C, H, W) are from those they are to match; `wanted` gets no
        gradient.
        """
        return maths.divergence(
            answer.float(), wanted.detach().float(), self.divergence_alpha, self.divergence_scale
        )

    # Lightning's hooks

    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        # dropout reads the global generator; the seed names the part of the batch, as each part
        # holds other images
        self.micro = batch_idx % self.accumulate
        part = distributed.rank() * self.accumulate + self.micro
        identity = (self.task.seed, self.stage, "dropout", self.global_step, part)
        randomness.reseed(randomness.generator_for(*identity).initial_seed(), self.device)
        losses = self.losses()
        self.last_losses = {name: value.detach() for name, value in losses.items()}
        if self.combine == "sum" and self.combiner is None:
            return sum(losses.values())
        if "retain" not in losses or len(losses) < 2:
            raise UsageError(
                f"method.combine={self.combine}: {type(self).__name__} has no two losses to combine"
                f" ({', '.join(losses)}). Type method.combine=sum"
            )
        self.parts = (sum(v for k, v in losses.items() if k != "retain"), losses["retain"])
        return (
            self.parts[self.global_step % 2] if self.combine == "alternation" else sum(self.parts)
        )

    def backward(self, loss: Tensor, *arguments, **keywords) -> None:
        if self.combiner is None:
            return super().backward(loss, *arguments, **keywords)
        parameters = [p for _, p in self.trained]
        gradients = []
        for part in self.parts:
            found = torch.autograd.grad(part, parameters, retain_graph=True, materialize_grads=True)
            gradients.append(distributed.mean(torch.cat([g.flatten() for g in found])))
        combined = self.combiner(*gradients).split([p.numel() for p in parameters])
        for parameter, gradient in zip(parameters, combined, strict=True):
            # laid out like its weight (channels_last), or the fused step pairs them wrongly
            parameter.grad = torch.empty_like(parameter).copy_(gradient.view_as(parameter))

    def configure_optimizers(self):
        # listed once: walking the module tree in every step costs more than clipping does
        self.everything = list(self.denoiser.parameters())
        self.trained = [
            (name, p) for name, p in self.denoiser.named_parameters() if p.requires_grad
        ]
        parameters = [p for _, p in self.trained]
        if self.optimizer == "relative":
            optimizer = RelativeAdam(parameters, lr=self.learning_rate)
        else:
            # a fused step unscales float16 gradients itself, after they were clipped: there the
            # plain one
            optimizer = torch.optim.Adam(
                parameters, lr=self.learning_rate, fused=self.trainer.precision != "16-mixed"
            )
        if self.lr_schedule == "constant":
            return optimizer
        if self.lr_schedule == "cosine":
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_steps)
        else:
            schedule = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self.learning_rate, total_steps=self.max_steps
            )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        # clipped first and masked second, as in SalUn's code
        if self.optimizer != "relative":
            torch.nn.utils.clip_grad_norm_(
                [p for _, p in self.trained], self.grad_clip, foreach=True
            )
        for name, parameter in self.trained if self.gradient_mask else ():
            if name in self.gradient_mask and parameter.grad is not None:
                parameter.grad.mul_(self.gradient_mask[name])

    def on_fit_start(self) -> None:
        self.denoiser.train()
        if self.ema_decay is not None:
            if not hasattr(self, "ema"):
                self.ema = EMAModel(self.denoiser.parameters(), decay=self.ema_decay, foreach=True)
            self.ema.to(self.device)

    def on_train_start(self) -> None:
        if self.combiner is not None and distributed.world_size() > 1:
            self.trainer.strategy.model.require_backward_grad_sync = (
                False  # each part is averaged before they are combined
            )
        # the fused step wants the moments laid out like their weight; a checkpoint may come from
        # another channels_last
        for parameter, state in self.optimizers(use_pl_optimizer=False).state.items():
            for name, value in state.items():
                if value.shape == parameter.shape:
                    state[name] = torch.empty_like(parameter).copy_(value)

    def optimizer_step(self, *arguments, **keywords) -> None:
        # not in on_train_batch_end, which Lightning calls after the callbacks: a checkpoint would
        # lack this step
        super().optimizer_step(*arguments, **keywords)
        if self.ema_decay is not None:
            self.ema.step(self.everything)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["unrelearn"] = {
            "rows": self.rows,
            "ema": self.ema.state_dict() if self.ema_decay else None,
        }

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.rows = checkpoint["unrelearn"]["rows"]
        # Lightning counts passes, of which a step may now take another number than before
        passes = checkpoint["global_step"] * self.accumulate
        for counter in ("total", "current"):
            counts = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"][counter]
            counts.update({name: passes for name in counts})
        if self.ema_decay is not None:
            self.ema = EMAModel(self.denoiser.parameters(), decay=self.ema_decay, foreach=True)
            self.ema.load_state_dict(checkpoint["unrelearn"]["ema"])

    @contextlib.contextmanager
    def averaged(self):
        """The EMA weights in place of the raw ones, for the time of the block."""
        self.ema.store(self.denoiser.parameters())
        self.ema.copy_to(self.denoiser.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.denoiser.parameters())

    def save(self, folder: Path) -> str:
        """Write raw/ and, where an average is kept, ema/; return the label of the one that is the
        model.
        """
        self._write(folder / "raw")
        if self.ema_decay is None:
            return "raw"
        with self.averaged():
            self._write(folder / "ema")
        return "ema"

    def _write(self, folder: Path) -> None:
        denoisers.save(
            self.exported().to(memory_format=torch.contiguous_format), folder, self.task.schedule
        )

    def exported(self) -> denoisers.Denoiser:
        """The network as it is written, with plain weights."""
        # a copy: were the network itself laid out anew, the optimiser's moments would no longer
        # match it (channels_last)
        return copy.deepcopy(self.denoiser)


class Pretraining(DiffusionModule):
    """Ordinary class-conditional training. Its task has nothing to forget: the retain set is the
    whole training set.
    """

    def __init__(self, task: Task, **arguments):
        super().__init__(task, train_class_embedding=True, stage="pretrain", **arguments)

    def losses(self) -> dict[str, Tensor]:
        return self.denoising_losses(denoising=self.draw("data", self.task.retain))


class Attack(DiffusionModule):
    """What `Relearning` and `Edit` have in common.

    Args: seed: the attack's own, inside that of the run: another one draws other batches, noise and
        shares of the data. 0 is
            the stream of the run itself. Subclasses draw from `self.task`, which knows of it.
    """

    unit: str  # of the numbers at which the attacked model is measured

    def __init__(self, task: Task, *, seed: int = 0, **arguments):
        if seed:
            cached, own = task.cached, {"attack_seed": seed}
            task = replace(
                task,
                seed=f"{task.seed}/{seed}",
                cached=lambda name, settings, compute: cached(name, {**settings, **own}, compute),
            )
        super().__init__(task, **arguments)

    @staticmethod
    def own_seed(**arguments) -> int:
        """The seed of an attack with these yaml arguments; 0 where nothing is drawn."""
        return arguments.get("seed", 0)

    @staticmethod
    def sees_forgotten(**arguments) -> bool:
        """Whether an attacker with these yaml arguments holds images of a forgotten class, or
        weights of the original model.
        """
        return False


class Relearning(Attack):
    """What attacks that train derive from: the steps are the last of the budgets at which the
    attacked model is measured.
    """

    unit = "steps"

    def __init__(self, task: Task, *, budgets: list[int], **arguments):
        super().__init__(task, max_steps=budgets[-1], stage="attack", **arguments)


class Edit(Attack):
    """What attacks derive from that change weights without a step, or after some; the edited model
    is measured at each level.

    Args:
        training: arguments of Attack, for an attack that trains before it edits, or draws (`seed`).
        levels: how strong the edit is, in `unit`, each in the interval `allowed`.
    """

    allowed: tuple[float, float]

    def __init__(self, task: Task, training: dict | None = None, /, *, levels: list[float]):
        arguments = {"max_steps": 0, "batch_size": 1, "learning_rate": 0.0, **(training or {})}
        super().__init__(task, stage="attack", **arguments)
        self.levels = levels

    def edit(self, level: float) -> dict[str, float]:
        """Change the network in place, from the unlearned or trained weights; return what was
        measured on the way, or {}.
        """
        raise NotImplementedError

    @contextlib.contextmanager
    def edited(self, level: float):
        """The network edited at this level, for the time of the block."""
        before = {name: value.clone() for name, value in self.denoiser.state_dict().items()}
        with torch.no_grad():
            self.rows.append({"step": level, **self.edit(level)})
        try:
            yield
        finally:
            self.denoiser.load_state_dict(before)


@dataclass
class FitOptions:
    """How a run is executed; nothing here is part of an artefact's key, except that `precision` is
    hashed by its stage.

    Args: batch_size_per_device: largest part of a term's batch in one pass; a step of more is done
        in several passes whose
            gradients are averaged (None: always one pass).
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


class _Recorder(Callback):
    """Progress bar, loss rows, divergence, snapshots and the checkpoint that a killed run continues
    from.
    """

    def __init__(self, folder: Path, description: str, options: FitOptions):
        self.checkpoint, self.description, self.options = (
            folder / RESUME / "last.ckpt",
            description,
            options,
        )
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

    def on_train_start(self, trainer, module) -> None:
        self.started = time.monotonic()
        self.shown = trainer.global_step
        self.stack = contextlib.ExitStack()
        self.advance = self.stack.enter_context(
            progress.bar(self.description, module.max_steps, done=self.shown)
        )

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        step = trainer.global_step
        for name, value in module.last_losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value / trainer.accumulate_grad_batches
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        if step % self.options.log_every_n_steps == 0 or step == module.max_steps:
            self.record(trainer, module, step)
        if (
            step in self.options.snapshots or step == module.max_steps or trainer.should_stop
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
            and step < module.max_steps
            and not trainer.should_stop
        ):
            # written aside and renamed: a kill in the middle leaves the previous checkpoint whole
            aside = self.checkpoint.with_suffix(".writing")
            trainer.save_checkpoint(aside)
            if trainer.is_global_zero:
                os.replace(aside, self.checkpoint)

    def record(self, trainer, module, step: int) -> None:
        count = step - (module.rows[-1]["step"] if module.rows else 0)
        means = torch.stack(list(self.sums.values())) / count
        if trainer.world_size > 1:
            means = trainer.strategy.reduce(means, reduce_op="mean")
        row = dict(zip(self.sums, means.tolist(), strict=True))
        self.sums = {}
        module.rows.append({"step": step, **row})
        self.options.log_row(step, row)
        self.advance(
            step - self.shown, note="  ".join(f"{name} {value:.4f}" for name, value in row.items())
        )
        self.shown = step
        if not all(math.isfinite(value) for value in row.values()):
            module.diverged_at = step
            trainer.should_stop = True
        elif module.converged():
            progress.say(f"{self.description}: converged after {step} of {module.max_steps} steps")
            trainer.should_stop = True

    def on_train_end(self, trainer, module) -> None:
        self.seconds += time.monotonic() - self.started
        self.stack.close()

    def on_exception(self, trainer, module, exception) -> None:
        if hasattr(self, "stack"):
            self.stack.close()


def fit(module: L.LightningModule, folder: Path, description: str, options: FitOptions) -> dict:
    """Run a module to its max_steps, or on from its last checkpoint in the folder, and return
    {"seconds", "diverged_at"}.

    The module needs what DiffusionModule has: max_steps, last_losses, rows, converged(), prepare().
    """
    recorder = _Recorder(folder, description, options)
    network = getattr(module, "denoiser", None)
    if network is not None and options.channels_last:
        network.to(memory_format=torch.channels_last)
    if network is not None and options.compile:
        network.compile()
    if module.max_steps == 0:
        if network is not None:
            module.to(next(network.parameters()).device)  # buffers too
        module.prepare()
        return {"seconds": 0.0, "diverged_at": None}
    world = distributed.world_size()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world)) if world > 1 else 1
    passes = 1
    if network is not None and options.batch_size_per_device:
        share = module.batch_size // world
        passes = module.accumulate = next(
            n
            for n in range(1, share + 1)
            if share % n == 0 and share // n <= options.batch_size_per_device
        )
    combines = getattr(module, "combiner", None) is not None
    if (combines and options.precision == "16-mixed") or (
        passes > 1 and (combines or getattr(module, "whole_steps", False))
    ):
        raise UsageError(
            f"{type(module).__name__}, method.combine={module.combine}: needs a whole step at once,"
            " unscaled. Type trainer.batch_size_per_device=null precision=bf16-mixed"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*(does not have many workers|srun|isinstance.*LeafSpec).*"
        )
        trainer = L.Trainer(
            max_steps=module.max_steps,
            max_epochs=-1,
            accelerator=options.accelerator,
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
            # the processes are there, whoever started them: Lightning must not look for Slurm,
            # which it has rules for
            plugins=[TorchElasticEnvironment() if world > 1 else LightningEnvironment()],
            precision=options.precision,
            accumulate_grad_batches=passes,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[recorder],
            num_sanity_val_steps=0,
        )
        module.to(trainer.strategy.root_device)
        module.prepare()
        resume = recorder.checkpoint if recorder.checkpoint.exists() else None
        try:
            trainer.fit(module, itertools.repeat(0), ckpt_path=resume)
        except SystemExit as ended:  # Lightning's answer to Ctrl-C
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
    return {"seconds": recorder.seconds, "diverged_at": module.diverged_at}
