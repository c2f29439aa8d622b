"""Training a denoiser: batches with times, noise and dropped labels, and the loss of DDPM."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths
from unrelearn.diffusion.noisy import NoisyBatch, noisy
from unrelearn.diffusion.ranking import fisher_information, guided_losses
from unrelearn.method import Method, constant
from unrelearn.task import Batch, Task
from unrelearn.training import Training

# what method.parameters says of a parameter's name; attn2 is diffusers' cross-attention, which
# reads the caption through to_k and to_v
CHOSEN: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "cross_attention": lambda name: ".attn2." in name,
    "key_value": lambda name: ".attn2.to_k." in name or ".attn2.to_v." in name,
    "not_cross_attention": lambda name: ".attn2." not in name,
}


@dataclass(kw_only=True)
class DenoisingTask(Task):
    """What a denoiser is trained with, besides the data."""

    schedule: dict  # of the noise: keyword arguments of diffusers' DDPMScheduler
    # "mean" over all elements, or "sum" over an image's, then the mean over the batch: C*H*W times
    # as much, which matters where gradients are clipped
    loss_reduction: str = "mean"
    antithetic: bool = False  # draw t for one half of a batch, the other half has T - 1 - t

    def worded(self, wordings: Tensor | None) -> Tensor | None:
        """In which wordings a forgotten class's caption is put to images of another one in
        these.
        """
        return wordings


class Denoising(Training):
    """Train `task.network`, a denoiser."""

    task: DenoisingTask
    network: denoisers.Denoiser
    spared = frozenset({denoisers.CLASS_EMBEDDING})

    def begin(self) -> None:
        schedule, shape = self.task.schedule, self.task.retain.images.shape[1:]
        self.network.class_embedding.requires_grad_(self.method.train_class_embedding)
        self.loss_scale = math.prod(shape) if self.task.loss_reduction == "sum" else 1
        self.register_buffer("alphas_cumprod", maths.alphas_of(schedule), persistent=False)
        super().begin()

    def may_move(self, name: str) -> bool:
        return CHOSEN[self.method.parameters](name)

    @property
    def null_label(self) -> int:
        """Of classifier-free guidance."""
        return len(self.task.class_names)

    def draw(self, term: str, data: ImageSet, *, label_dropout: float | None = None) -> NoisyBatch:
        """Images drawn with replacement, times, noise, flips and dropped labels.

        label_dropout: None: the method's.
        """
        method, device = self.method, self.device
        n, steps = method.batch_size, self.task.schedule["num_train_timesteps"]
        g = self.generator(term)
        # on the CPU, where images that do not fit the device are
        index = torch.randint(len(data), (n,), generator=g)  # as `indexes`
        if device.type != "cpu":
            g = self.generator(term, device=device)
        t = torch.randint(steps, (n,), generator=g, device=device)
        if self.task.antithetic:
            t = torch.cat([t[: -(-n // 2)], steps - 1 - t[: n // 2]])
        noise = torch.randn((n, *data.images.shape[1:]), generator=g, device=device)
        uniform, flip = torch.rand((2, n), generator=g, device=device)
        index, t, noise, uniform, flip = map(self.part, (index, t, noise, uniform, flip))
        x_0 = to_model_range(self.images(term, data, index))
        labels = self.conditions(data, index.to(data.labels.device))
        if self.task.horizontal_flip:
            x_0 = torch.where(flip.view(-1, 1, 1, 1) < 0.5, x_0.flip(-1), x_0)
        dropout = method.label_dropout if label_dropout is None else label_dropout
        labels = maths.drop_labels(labels, uniform, dropout, self.null_label)
        return NoisyBatch(x_0, labels, noise, t)

    def conditions(self, data: ImageSet, index: Tensor) -> Tensor:
        """Of images (B,) their labels, with the wording where classes have several captions."""
        labels = data.labels[index]
        if data.wordings is not None and denoisers.reads_text(self.network):
            labels = labels + (self.null_label + 1) * data.wordings[index]
        return labels.to(self.device)

    def fixed(self, data: ImageSet, count: int, g: torch.Generator) -> NoisyBatch:
        index = torch.randint(len(data), (count,), generator=g)
        x_0 = to_model_range(data.images[index].to(self.device))
        labels = self.conditions(data, index.to(data.labels.device))
        t = torch.randint(self.task.schedule["num_train_timesteps"], (count,), generator=g)
        noise = torch.randn(x_0.shape, generator=g)
        return NoisyBatch(x_0, labels, noise.to(self.device), t.to(self.device))

    def noised(self, batch: NoisyBatch) -> Tensor:
        """x_t (B, C, H, W)."""
        return maths.add_noise(batch.x_0, batch.noise, batch.t, self.alphas_cumprod)

    def target(self, batch: NoisyBatch) -> Tensor:
        """What the network is to answer at x_t: noise, x_0 or v."""
        kind = self.task.schedule["prediction_type"]
        return maths.target(batch.x_0, batch.noise, batch.t, self.alphas_cumprod, kind)

    def predict(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """What the network answers (B, C, H, W) at x_t, times t (B,) and labels (B,)."""
        return denoisers.predict(self.network, x_t, t, labels)

    def bounded(self, x_0: Tensor) -> Tensor:
        """Kept in [-1, 1], where pixels lie; latents have no bounds."""
        return x_0 if denoisers.is_latent(self.network) else x_0.clamp(-1, 1)

    def matching(self, answer: Tensor, wanted: Tensor) -> Tensor:
        """How far predictions (B, C, H, W) are from those they are to match; `wanted` gets no
        gradient.
        """
        method = self.method
        wanted = wanted.detach().float()
        return maths.divergence(
            answer.float(), wanted, method.divergence_alpha, method.divergence_scale
        )

    def other_labels(self, batch: Batch, pseudo_label: int | None = None) -> Tensor:
        """The next retained class in place of each forgotten one."""
        if pseudo_label is not None:
            return torch.full_like(batch.labels, pseudo_label)
        return self.task.stand_ins(batch.labels)

    def reinitialise(self) -> None:
        denoisers.reinitialise(self.network, self.task.run_seed)

    def imitate(self, batch: Batch, labels: Tensor) -> NoisyBatch:
        batch = noisy(batch)
        with torch.no_grad():
            wanted = self.predict(self.noised(batch), batch.t, labels)
        return replace(batch, wanted=wanted)

    def loss(self, batch: Batch) -> Tensor:
        """The mean squared error of each image (B,), times `loss_scale`. DDPM Eq. 14."""
        batch = noisy(batch)
        answer = self.predict(self.noised(batch), batch.t, batch.labels).float()
        return self.loss_scale * (answer - self.target(batch)).square().mean((1, 2, 3))

    def means(self, **batches: Batch) -> dict[str, Tensor]:
        """The mean squared error of each batch, or how far it is from what is wanted of it; in one
        forward pass.
        """
        parts = [noisy(batch) for batch in batches.values()]
        x_t = torch.cat([self.noised(batch) for batch in parts])
        t = torch.cat([batch.t for batch in parts])
        labels = torch.cat([batch.labels for batch in parts])
        answers = self.predict(x_t, t, labels).float().split([len(batch.t) for batch in parts])
        means = {}
        for name, batch, answer in zip(batches, parts, answers, strict=True):
            if batch.wanted is None:
                means[name] = (answer - self.target(batch)).square().mean()
            else:
                means[name] = self.matching(answer, batch.wanted)
        return means

    def forget_losses(self, batches: int | None = None) -> Iterator[Tensor]:
        method, task = self.method, self.task
        losses = guided_losses(
            self.network,
            task.forget,
            task.schedule,
            method.saliency_guidance_scale,
            seed=task.seed,
            batch_size=method.batch_size,
        )
        return itertools.islice(losses, batches)

    def information(self, data: ImageSet) -> dict[str, Tensor]:
        task, n = self.task, self.method.fisher_samples
        return fisher_information(self.network, data, n, task.schedule, task.seed)

    def write(self, network: denoisers.Denoiser, folder: Path) -> None:
        network = network.to(memory_format=torch.contiguous_format)
        denoisers.save(network, folder, self.task.schedule)


@dataclass(kw_only=True)
class DenoiserPretraining(Method):
    """Ordinary class-conditional training. Its task has nothing to forget: the retain set is the
    whole training set.
    """

    train_class_embedding: bool = constant(True)

    stage = "pretrain"
    from_scratch = True

    def losses(self, t: Denoising) -> dict[str, Tensor]:
        return t.losses(denoising=t.draw("data", t.task.retain))
