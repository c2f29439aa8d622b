"""Training a classifier: batches of augmented images in epochs of their own, and cross-entropy."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

from unrelearn import distributed, optimizers, progress, randomness
from unrelearn.classification import networks
from unrelearn.classification.augmentation import augment
from unrelearn.classification.batch_norm import GlobalBatchNorm
from unrelearn.classification.best import Best, ends_epoch
from unrelearn.classification.epochs import epoch_indexes
from unrelearn.classification.recipe import Recipe
from unrelearn.data import ImageSet
from unrelearn.method import Method
from unrelearn.task import Batch, Task
from unrelearn.training import Training

FISHER_BATCH = 100  # images whose own gradients are held at once


@dataclass(kw_only=True)
class ClassifyingTask(Task):
    """What a classifier is trained with, besides the data."""

    momentum: float = 0.9  # of SGD
    weight_decay: float = 5e-4
    batch_norm: str = "train"  # "eval": methods and attacks leave the running statistics alone
    # name of an augmentation for each place: base, retrain, retain, forget, attack
    augment: dict[str, str] = field(default_factory=dict)
    recipe: Recipe | None = None  # of retraining, for methods that train models beside theirs
    public: ImageSet | None = None  # images that neither set holds, of the same kind
    validation: ImageSet | None = None  # of what trains from scratch, the best epoch is kept


class Classifying(Training):
    """Train `task.network`, a classifier."""

    task: ClassifyingTask
    network: networks.Network
    grad_clip = 5.0

    def __init__(self, method: Method, task: Task):
        super().__init__(method, task)
        held = self.task.validation
        self.best = Best(held) if held is not None and method.from_scratch else None

    @property
    def num_classes(self) -> int:
        return len(self.task.class_names)

    def reinitialise(self) -> None:
        fresh = networks.build(self.network.config, self.task.run_seed)
        self.network.load_state_dict(fresh.state_dict())

    def place(self, term: str) -> str:
        """Where images of a term are augmented: as a key of `augment`."""
        method = self.method
        if isinstance(method, ClassifierPretraining):
            return "base"
        if method.attacks:
            return "attack"
        if method.from_scratch:
            return "retrain"
        return "forget" if term == "forget" else "retain"

    def indexes(self, term: str, count: int, step: int) -> Tensor:
        identity = (self.task.seed, self.method.stage, term)
        return epoch_indexes(identity, count, step * self.method.batch_size, self.method.batch_size)

    def draw(self, term: str, data: ImageSet, *, label_dropout: float | None = None) -> Batch:
        """Images in an order of each epoch's own, batches running on from one into the next.

        Returns:
            x_0 (B, C, S, S) in [0, 1], what a classifier reads. label_dropout is a denoiser's.
        """
        index = self.part(self.indexes(term, len(data), self.step))
        images = self.images(term, data, index)
        images = augment(
            self.task.augment.get(self.place(term), "none"),
            images,
            index,
            seed=augmentation_seed(self.task.seed, self.method.stage, term),
            step=self.step,
            flip=self.task.horizontal_flip,
        )
        labels = data.labels[index.to(data.labels.device)].to(self.device)
        return Batch(unit(images), labels)

    def fixed(self, data: ImageSet, count: int, g: torch.Generator) -> Batch:
        index = torch.randint(len(data), (count,), generator=g)
        images = data.images[index.to(data.images.device)].to(self.device)
        return Batch(unit(images), data.labels[index.to(data.labels.device)].to(self.device))

    def other_labels(self, batch: Batch, pseudo_label: int | None = None) -> Tensor:
        """A wrong label for each image (B,), drawn evenly from the others, anew in every step."""
        if pseudo_label is not None:
            return torch.full_like(batch.labels, pseudo_label)
        shift = 1 + (self.uniform("labels") * (self.num_classes - 1)).long()
        return (batch.labels + shift) % self.num_classes

    def imitate(self, batch: Batch, labels: Tensor) -> Batch:
        """The batch with other labels: a classifier's answer under a label is the label."""
        return replace(batch, labels=labels)

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of each image (B,)."""
        return F.cross_entropy(self.network(batch.x_0).float(), batch.labels, reduction="none")

    def logits(self, *batches: Batch) -> tuple[Tensor, ...]:
        """Of each batch (B, K), in one forward pass: they share the statistics of BatchNorm."""
        x = torch.cat([batch.x_0 for batch in batches])
        return self.network(x).float().split([len(batch.labels) for batch in batches])

    def means(self, **batches: Batch) -> dict[str, Tensor]:
        answers = self.logits(*batches.values())
        pairs = zip(batches.items(), answers, strict=True)
        return {name: F.cross_entropy(answer, batch.labels) for (name, batch), answer in pairs}

    def forget_losses(self, batches: int | None = None) -> Iterator[Tensor]:
        """As in Unlearn-Saliency, but for images as they are: there they are augmented."""
        data, size = self.task.forget, self.method.batch_size
        starts = range(0, len(data), size)
        for start in itertools.islice(starts, batches):
            some = torch.arange(start, min(start + size, len(data)), device=data.labels.device)
            part = data.take(some)
            x = unit(part.images[:].to(self.device))
            yield F.cross_entropy(self.network(x), part.labels.to(self.device))

    def information(self, data: ImageSet) -> dict[str, Tensor]:
        """Mean of each image's squared gradient of the cross-entropy, over the first images; where
        they are sorted by class, over images spread evenly.
        """
        network = self.network
        training = network.training
        network.eval()
        weights = dict(network.named_parameters())

        def loss(weights: dict[str, Tensor], x: Tensor, label: Tensor) -> Tensor:
            logits = functional_call(network, weights, (x[None],))
            return F.cross_entropy(logits, label[None])

        count = min(self.method.fisher_samples, len(data))
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        for some in first_images(data.labels, count).split(FISHER_BATCH):
            part = data.take(some)
            x, labels = unit(part.images[:].to(self.device)), part.labels.to(self.device)
            detached = {name: p.detach() for name, p in weights.items()}
            each = vmap(grad(loss), in_dims=(None, 0, 0))(detached, x, labels)
            for name, gradients in each.items():
                total[name] += gradients.square().sum(0) / count
        network.train(training)
        return total

    def new_optimizer(self, parameters: list[nn.Parameter]) -> Optimizer:
        """SGD, unless the method names another."""
        method, task = self.method, self.task
        if method.optimizer is not None:
            return optimizers.build(method.optimizer, parameters, method.learning_rate, True)
        return SGD(
            parameters, method.learning_rate, momentum=task.momentum, weight_decay=task.weight_decay
        )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        for module in self.network.modules():
            if isinstance(module, GlobalBatchNorm):
                module.shared = distributed.world_size() > 1
                module.train(self.method.from_scratch or self.task.batch_norm == "train")

    def optimizer_step(self, *arguments: Any, **keywords: Any) -> None:
        super().optimizer_step(*arguments, **keywords)
        size, count, last = self.method.batch_size, len(self.task.retain), self.method.max_steps
        if self.best is not None and ends_epoch(self.step + 1, size, count, last):
            self.best.look(self.network, self.step + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["best"] = None if self.best is None else self.best.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if self.best is not None:
            self.best.load_state_dict(checkpoint["best"])

    def save(self, folder: Path) -> str:
        if self.best is not None and self.best.weights:
            self.network.load_state_dict(self.best.weights)
            share = f"{100 * self.best.accuracy:.1f} % of the validation images"
            progress.say(f"{self.method.stage}: step {self.best.step} is kept, right on {share}")
        return super().save(folder)

    def on_fit_end(self) -> None:
        for module in self.network.modules():
            if isinstance(module, GlobalBatchNorm):
                module.shared = False

    def write(self, network: nn.Module, folder: Path) -> None:
        assert isinstance(network, networks.Network)
        networks.save(network, folder)


def first_images(labels: Tensor, count: int) -> Tensor:
    """Indexes int64 (count,): the first; where images are sorted by class these would be of few
    classes, so that they are spread evenly then.
    """
    if (labels.diff() < 0).any():
        return torch.arange(count, device=labels.device)
    return torch.linspace(0, len(labels) - 1, count, device=labels.device).long()


def unit(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [0, 1], what classifiers are trained on."""
    return images.float() / 255


def augmentation_seed(seed: int | str, stage: str, term: str) -> int:
    return randomness.generator_for(seed, stage, term, "augmentation").initial_seed()


@dataclass(kw_only=True)
class ClassifierPretraining(Method):
    """Ordinary training. Its task has nothing to forget: the retain set is the whole training
    set.
    """

    stage = "pretrain"
    from_scratch = True

    def losses(self, t: Classifying) -> dict[str, Tensor]:
        return t.losses(data=t.draw("data", t.task.retain))
