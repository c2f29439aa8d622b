"""What a method is given in a step: batches, losses and random numbers.

All randomness of step k is a function of (seed, stage, name, k) and is drawn for the whole global
batch, of which each process and each pass has a part: one process or eight, interrupted or not, the
same run. (The per-step reseeding is the habit of NVlabs/edm2.)
"""

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor, nn

from unrelearn import distributed, masks, randomness
from unrelearn.data import ImageSet
from unrelearn.masks import Mask
from unrelearn.method import Method
from unrelearn.reading import ReadAhead
from unrelearn.task import Batch, Task

T = TypeVar("T")


class Batches(L.LightningModule):
    """What is drawn in a step: for the whole batch, of which each process and pass has a part."""

    method: Method
    task: Task
    network: nn.Module
    loss_scale: float = 1  # of what `losses` gives, in units of `means`
    # names of weights that pruning leaves: there a row is all there is of a class
    spared: frozenset[str] = frozenset()
    # names of weights that are everybody's, which no edit of a model changes: a text encoder's
    public: frozenset[str] = frozenset()

    def __init__(self) -> None:
        super().__init__()
        # forward passes in which a step is done, and which of them this one is
        self.accumulate, self.micro = 1, 0
        self.reader = ReadAhead()
        self.kept: dict[str, Any] = {}

    @property
    def step(self) -> int:
        """How many steps of the optimiser were taken."""
        return self.global_step

    def generator(
        self, name: str, *, device: torch.device | str = "cpu", step: int | None = None
    ) -> torch.Generator:
        """The random numbers of this step that go by a name."""
        identity = (self.task.seed, self.method.stage, name, self.step if step is None else step)
        return randomness.generator_for(*identity, device=device)

    def part(self, whole: Tensor) -> Tensor:
        """Of what was drawn for the whole batch, (batch_size, ...), the rows of this part."""
        return whole[self._mine(self.micro)]

    def uniform(self, name: str, shape: tuple[int, ...] = ()) -> Tensor:
        """Uniform numbers in [0, 1), (B, *shape), another stream for each name."""
        g = self.generator(name, device=self.device)
        size = (self.method.batch_size, *shape)
        return self.part(torch.rand(size, generator=g, device=self.device))

    def choose(self, name: str, values: list[int]) -> Tensor:
        """One of the values for each example, (B,)."""
        size = (self.method.batch_size,)
        index = torch.randint(len(values), size, generator=self.generator(name))
        return self.part(torch.tensor(values)[index]).to(self.device)

    def choose_one(self, name: str, values: list[int]) -> int:
        """One of the values for the whole batch."""
        return values[int(torch.randint(len(values), (), generator=self.generator(name)))]

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """compute() once in a step, in however many passes it is done."""
        if self.micro == 0:
            self.kept[name] = compute()
        return self.kept[name]

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the whole batch of a number for each example (B,); no gradient."""
        return distributed.mean(values.detach().mean())

    def whole_gradient(
        self, network: nn.Module, loss: Callable[[], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """A loss of this step's whole batch and its gradient (P,) by the weights of a network that
        may move.

        loss: () -> its mean over the part that is drawn now; called for each pass of the step.
        """
        parameters = [p for p in network.parameters() if p.requires_grad]
        now, totals = self.micro, []
        for number in range(self.accumulate):
            self.micro = number
            value = loss()
            gradients = torch.autograd.grad(value, parameters, materialize_grads=True)
            totals.append(torch.cat([value.detach()[None], *(g.flatten() for g in gradients)]))
        self.micro = now
        mean = distributed.mean(reduce(add, totals) / self.accumulate)
        return mean[0], mean[1:]

    def indexes(self, term: str, count: int, step: int) -> Tensor:
        """Which of so many images the whole batch of a step is, (batch_size,)."""
        g = self.generator(term, step=step)
        return torch.randint(count, (self.method.batch_size,), generator=g)

    def images(self, term: str, data: ImageSet, index: Tensor) -> Tensor:
        """Images uint8 at an index (B,), a part of what `indexes` gives for this step."""
        if isinstance(data.images, Tensor) and data.images.device == self.device:
            return data.images[index.to(self.device)]
        last = self.micro + 1 == self.accumulate
        step, micro = (self.step + 1, 0) if last else (self.step, self.micro + 1)
        following = self.indexes(term, len(data), step)
        now, then = (self.step, self.micro), (step, micro)
        images = self.reader.read(
            term,
            data,
            (now, index),
            (then, following[self._mine(micro)]),
            pin=self.device.type == "cuda",
        )
        return images.to(self.device, non_blocking=True)

    def _mine(self, micro: int) -> slice:
        """This process's part of the global batch in one of the passes that make up a step."""
        share = distributed.my_slice(self.method.batch_size)
        size = (share.stop - share.start) // self.accumulate
        return slice(share.start + micro * size, share.start + (micro + 1) * size)

    # what a kind of model says

    def draw(self, term: str, data: ImageSet, *, label_dropout: float | None = None) -> Batch:
        """This step's batch for one term of the loss."""
        raise NotImplementedError

    def fixed(self, data: ImageSet, count: int, g: torch.Generator) -> Batch:
        """So many images, drawn with replacement and not changed, and all that their loss needs: a
        function of the generator, whatever the step.
        """
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """The ordinary loss of each example, (B,)."""
        raise NotImplementedError

    def means(self, **batches: Batch) -> dict[str, Tensor]:
        """The mean loss of each batch, in one forward pass."""
        raise NotImplementedError

    def other_labels(self, batch: Batch, pseudo_label: int | None = None) -> Tensor:
        """Labels (B,) that stand in for those of a batch of D_f; pseudo_label: the same for all."""
        raise NotImplementedError

    def reinitialise(self) -> None:
        """Give the network its random initial weights, a function of the seed of the run."""
        raise NotImplementedError

    def imitate(self, batch: Batch, labels: Tensor) -> Batch:
        """The batch, to be answered as the network now answers under other labels (B,)."""
        raise NotImplementedError

    def forget_losses(self, batches: int | None = None) -> Iterator[Tensor]:
        """The losses of one pass over the forget set, whose gradients rank the weights; of the
        first so many batches.
        """
        raise NotImplementedError

    def information(self, data: ImageSet) -> dict[str, Tensor]:
        """The diagonal of the Fisher information of every weight for these images."""
        raise NotImplementedError

    def write(self, network: nn.Module, folder: Path) -> None:
        """Write weights into a folder."""
        raise NotImplementedError

    # what a method asks for

    def losses(self, **batches: Batch) -> dict[str, Tensor]:
        """The ordinary loss of each batch, reduced as the task says, in one forward pass."""
        return {name: self.loss_scale * loss for name, loss in self.means(**batches).items()}

    def salient(self, fraction: float, *, snip: bool = False, batches: int | None = None) -> Mask:
        """The weights that matter most for the forget set. See `masks.saliency`."""
        return masks.saliency(self.network, self.forget_losses(batches), fraction, snip=snip)

    def fisher(self, data: ImageSet, **source: object) -> dict[str, Tensor]:
        """The Fisher information of every weight of the starting model, which the network must
        still be, for some images.

        source: what the images are; with the number of samples it names what is kept.
        """
        settings = {**source, "samples": self.method.fisher_samples}
        return self.task.cached("fisher", settings, lambda: self.information(data))
