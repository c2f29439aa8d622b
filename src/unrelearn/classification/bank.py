"""Many small classifiers trained at once, where one alone would not fill the device.

The weights of M networks of one architecture are stacked, and each step is one call of all of them
(torch.func). Everything of a member is its own: initial weights, images, order, augmentation and
the statistics of BatchNorm; a bank equals its members trained one by one, but for rounding.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from unrelearn import optimizers
from unrelearn.classification.augmentation import augment
from unrelearn.classification.best import ends_epoch
from unrelearn.classification.classifying import augmentation_seed, unit
from unrelearn.classification.epochs import epoch_indexes
from unrelearn.classification.networks import NetworkConfig, build
from unrelearn.classification.recipe import Recipe
from unrelearn.data import ImageSet
from unrelearn.method import Method

State = dict[str, Tensor]


@dataclass(frozen=True)
class Member:
    """One classifier of a bank: the seed of all that is random in it, and its training images."""

    seed: int
    indexes: Tensor  # int64 (n,), of the training set


class Bank:
    """M networks of one architecture.

    Args:
        config: the architecture.
        members: what is trained, M of them.
        device: where their weights are.
    """

    def __init__(self, config: NetworkConfig, members: list[Member], device: str = "cpu"):
        self.members = members
        networks = [build(config, member.seed).to(device) for member in members]
        self.parameters, self.buffers = stack_module_state(networks)
        self.skeleton = build(config, 0).to("meta")  # the code of all; its weights are never read

    def train(
        self,
        data: ImageSet,
        recipe: Recipe,
        advance: Callable[[int], None] = lambda steps: None,
        validation: ImageSet | None = None,
    ) -> None:
        """All members, step by step; a bank is trained once. With validation images each member
        ends with the weights of its best epoch.
        """
        self.skeleton.train()
        weights = list(self.parameters.values())
        optimizer = torch.optim.SGD(
            weights,
            recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        schedules = optimizers.schedule(recipe.lr_schedule, optimizer, recipe.max_steps)
        streams = [batches(data, member, recipe) for member in self.members]
        best = _BestOfEach(self, validation) if validation is not None else None
        counts = [len(member.indexes) for member in self.members]
        for step in range(1, recipe.max_steps + 1):
            x, labels = (torch.stack(part) for part in zip(*map(next, streams), strict=True))
            logits = self._call(x, 0)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
            optimizer.zero_grad(set_to_none=True)
            (loss / recipe.batch_size).backward()  # the sum over members, each with its own weights
            self._clip(recipe.grad_clip)
            optimizer.step()
            for schedule in schedules:
                schedule.step()
            advance(1)
            ended = [ends_epoch(step, recipe.batch_size, n, recipe.max_steps) for n in counts]
            if best and any(ended):
                best.look(torch.tensor(ended))
        if best:
            best.restore()

    @torch.no_grad()
    def _clip(self, limit: float) -> None:
        """Each member's gradient to a norm of its own, as torch.nn.utils.clip_grad_norm_ does."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norms = sum(g.flatten(1).square().sum(1) for g in gradients).sqrt()
        factors = (limit / (norms + 1e-6)).clamp(max=1)
        for g in gradients:
            g.mul_(factors.view(-1, *[1] * (g.ndim - 1)))

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 500) -> Tensor:
        """Logits float32 (M, N, K) on the CPU of uint8 images (N, C, S, S), with the running
        statistics.
        """
        self.skeleton.eval()
        device = next(iter(self.parameters.values())).device
        parts = [self._call(unit(part.to(device)), None) for part in images.split(batch_size)]
        return torch.cat(parts, dim=1).float().cpu()

    def state_dict(self, number: int) -> State:
        """Of one member, for `Network.load_state_dict`."""
        stacked = {**self.parameters, **self.buffers}
        return {name: value[number].detach().clone() for name, value in stacked.items()}

    def _call(self, x: Tensor, x_dim: int | None) -> Tensor:
        """Logits (M, B, K) of images (M, B, ...), or of the same (B, ...) for all where x_dim is
        None. In training the statistics of BatchNorm, a row for each member, are moved in place.
        """

        def one(parameters: State, buffers: State, x: Tensor) -> Tensor:
            return functional_call(self.skeleton, (parameters, buffers), (x,))

        return vmap(one, in_dims=(0, 0, x_dim))(self.parameters, self.buffers, x)


class _BestOfEach:
    """See best.Best."""

    def __init__(self, bank: Bank, held: ImageSet):
        self.bank, self.held = bank, held
        self.accuracy = torch.full((len(bank.members),), -1.0, dtype=torch.float64)
        self.now = {**bank.parameters, **bank.buffers}
        self.weights = {name: w.detach().clone() for name, w in self.now.items()}

    @torch.no_grad()
    def look(self, ended: Tensor) -> None:
        predicted = self.bank.predict(self.held.images).argmax(-1)
        self.bank.skeleton.train()
        accuracy = (predicted == self.held.labels.cpu()).double().mean(1)
        better = ended & (accuracy > self.accuracy)
        self.accuracy = torch.where(better, accuracy, self.accuracy)
        for name, w in self.now.items():
            chosen = better.to(w.device)
            self.weights[name][chosen] = w[chosen]

    @torch.no_grad()
    def restore(self) -> None:
        for name, w in self.now.items():
            w.copy_(self.weights[name])


def batches(data: ImageSet, member: Member, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Images float32 (B, C, S, S) in [0, 1] and labels (B,), without end: the member's images in an
    order of each epoch's own, batches running on from one into the next.
    """
    seed, stage, term = member.seed, Method.stage, "retain"  # the names that `retrain` draws by
    for step in itertools.count():
        start, size = step * recipe.batch_size, recipe.batch_size
        within = epoch_indexes((seed, stage, term), len(member.indexes), start, size)
        batch = data.take(member.indexes[within].to(data.labels.device))
        images = augment(
            recipe.augmentation,
            batch.images[:],
            within,
            seed=augmentation_seed(seed, stage, term),
            step=step,
            flip=recipe.flip,
        )
        yield unit(images), batch.labels
