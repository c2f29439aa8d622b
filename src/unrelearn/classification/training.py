"""How the classifiers that measure are trained: on real images, and on images that show nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from unrelearn import randomness
from unrelearn.classification import negatives
from unrelearn.classification.classifier import Classifier
from unrelearn.data import ImageSet, to_model_range
from unrelearn.method import Method, constant
from unrelearn.ranges import LearningRates, Probability, Rate, Steps
from unrelearn.task import Task
from unrelearn.training import Training

# places in a batch of what shows nothing, and of what is noisy
EMPTY, VEILED = slice(3, None, 4), slice(1, None, 4)


@dataclass(kw_only=True)
class OracleRecipe(Method):
    """Cross-entropy on real images, shifted by at most `shift` pixels (and flipped where the data
    allow it). A quarter of them have some noise; every fourth makes room for an image that shows
    nothing.
    """

    weight_decay: Rate
    label_smoothing: Probability
    shift: Steps  # pixels
    lr_schedule: LearningRates = constant("one_cycle")
    grad_clip: float = constant(float("inf"))

    def begin(self, t: Training) -> None:
        train = t.task.retain
        some = torch.linspace(0, len(train) - 1, min(len(train), 2000)).long()
        images = train.take(some.to(train.labels.device)).images[:].cpu()
        self.mean_image = to_model_range(images).mean(0)

    def losses(self, t: Training) -> dict[str, Tensor]:
        seed, data = t.task.run_seed, t.task.retain
        g = randomness.generator_for(seed, "oracle", t.step)
        index = torch.randint(len(data), (self.batch_size,), generator=g)
        dy, dx = torch.randint(
            2 * self.shift + 1, (2,), generator=randomness.generator_for(seed, "shift", t.step)
        ).tolist()
        flip = torch.rand(self.batch_size, generator=g) < 0.5
        x_0, labels = real(t, t.part(index))
        self.put(t, x_0, index, VEILED, negatives.veiled)
        empty = self.put(t, x_0, index, EMPTY, partial(negatives.draw, self.mean_image))
        labels[empty] = t.network.num_classes
        h, w = x_0.shape[-2:]
        x_0 = F.pad(x_0, (self.shift,) * 4, mode="replicate")[:, :, dy : dy + h, dx : dx + w]
        if t.task.horizontal_flip:
            x_0 = torch.where(t.part(flip).view(-1, 1, 1, 1).to(t.device), x_0.flip(-1), x_0)
        randomness.reseed(seed * 1_000_003 + t.step, t.device)
        features = t.network.features(x_0)  # dropout, too, is drawn for the global batch
        kept = t.part(t.network.dropout(features.new_ones(self.batch_size, features.shape[1])))
        logits = t.network.logits(features * kept)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        return {"cross_entropy": loss}

    def put(
        self,
        t: Training,
        x_0: Tensor,
        index: Tensor,
        places: slice,
        make: Callable[[Tensor, torch.Generator], Tensor],
    ) -> Tensor:
        """What is made of the training images at these places of the global batch into this
        process's part of it, x_0; where it is there. Each process makes all of it, so that it is
        the same for any number of them.
        """
        g = randomness.generator_for(t.task.seed, "made", places.start, t.step)
        images = make(real(t, index[places])[0].cpu(), g)
        every = torch.arange(self.batch_size)
        mine, at = t.part(every), every[places]
        here = torch.isin(at, mine)
        place = (at[here] - mine[0]).to(t.device)
        x_0[place] = images[here].to(t.device)
        return place


def real(t: Training, index: Tensor) -> tuple[Tensor, Tensor]:
    """Training images in [-1, 1] and labels, on the device."""
    data = t.task.retain
    batch = data.take(index.to(data.labels.device))
    return to_model_range(batch.images[:].to(t.device)), batch.labels.to(t.device, copy=True)


class ClassifierTraining(Training):
    """Train a classifier by AdamW."""

    method: OracleRecipe

    def __init__(
        self,
        recipe: OracleRecipe,
        classifier: Classifier,
        train: ImageSet,
        *,
        seed: int,
        flip: bool,
    ):
        super().__init__(
            recipe,
            Task(
                network=classifier,
                forget=train.of_classes([]),
                retain=train,
                forget_classes=[],
                class_names=tuple(map(str, range(classifier.num_classes))),
                seed=seed,
                horizontal_flip=flip,
            ),
        )

    def new_optimizer(self, parameters: list) -> Optimizer:
        method = self.method
        return AdamW(parameters, method.learning_rate, weight_decay=method.weight_decay)
