"""The classifiers that say which class a generated image shows, and whose features Frechet and
kernel distances use.

Two of them: the oracle, and a held-out one of another architecture and seed that no method, attack
or tuning ever sees. Both are trained on one half of the real training images (all classes; the
other half is what distances compare with) and on images that show nothing (negatives.py), for which
they have an output of their own, after those of the classes. They are reported with their accuracy
on real test images.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import lightning as L
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from unrelearn import distributed, randomness
from unrelearn.classification import negatives
from unrelearn.data import ImageSet, to_model_range

EMPTY, VEILED = (
    slice(3, None, 4),
    slice(1, None, 4),
)  # places in a batch of what shows nothing, and of what is noisy


def halves(data: ImageSet) -> tuple[ImageSet, ImageSet]:
    """(what the classifiers train on, what distances take for the reference): of each class its
    images at even and at odd places, in the order of the set. Features fitted to the reference
    itself would put it closer than it is.
    """
    odd = torch.zeros(len(data), dtype=torch.bool)
    for c in data.labels.unique():
        odd[torch.where(data.labels == c)[0].cpu()[1::2]] = True
    odd = odd.to(data.labels.device)
    return data.where(~odd), data.where(odd)


def _convolution(a: int, b: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(8, b), nn.SiLU())


class _Residual(nn.Module):
    def __init__(self, a: int, b: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8 if a % 8 == 0 else 1, a),
            nn.ReLU(),
            nn.Conv2d(a, b, 3, padding=1),
            nn.GroupNorm(8, b),
            nn.ReLU(),
            nn.Conv2d(b, b, 3, padding=1),
        )
        self.skip = nn.Conv2d(a, b, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.body(x)


class Classifier(nn.Module):
    """A small convolutional classifier of (B, channels, S, S) images in [-1, 1]; class num_classes
    is "nothing".

    Args: architecture: "plain" (two convolutions a level, as in VGG) or "residual" (one
        pre-activation block a level). image_size: S; the image is halved until 4 pixels are left or
        the fourth level is reached. width: channels of the first level, doubled at each further one
        up to 8 x width.
    """

    def __init__(
        self, *, architecture: str, image_size: int, channels: int, num_classes: int, width: int
    ):
        super().__init__()
        self.config = dict(
            architecture=architecture,
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            width=width,
        )
        layers, a, size, b = [], channels, image_size, width
        while True:
            layers += (
                [_convolution(a, b), _convolution(b, b)]
                if architecture == "plain"
                else [_Residual(a, b)]
            )
            if size < 8 or b == 8 * width:
                break
            layers.append(nn.MaxPool2d(2))
            a, b, size = b, 2 * b, size // 2
        self.body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * b, 64), nn.SiLU()
        )
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(64, num_classes + 1)

    def features(self, x_0: Tensor) -> Tensor:
        """(B, 64), the activations before the last layer."""
        return self.body(x_0)

    def forward(self, x_0: Tensor) -> Tensor:
        """Logits (B, num_classes + 1), the last one of "nothing"."""
        return self.head(self.dropout(self.features(x_0)))

    @torch.inference_mode()
    def look(self, images: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
        """Of uint8 images: probabilities (N, K + 1) of the classes and nothing, and features (N,
        64), float64 on the CPU.
        """
        device = self.head.weight.device
        features = torch.cat(
            [self.features(to_model_range(part.to(device))) for part in images.split(batch_size)]
        )
        return self.head(features).double().softmax(1).cpu(), features.double().cpu()

    def save(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(self.config, indent=1))
        save_file(
            {k: v.contiguous().cpu() for k, v in self.state_dict().items()},
            folder / "classifier.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> "Classifier":
        classifier = cls(**json.loads((folder / "config.json").read_text()))
        classifier.load_state_dict(load_file(folder / "classifier.safetensors"))
        return classifier.eval().requires_grad_(False)


class ClassifierTraining(L.LightningModule):
    """Cross-entropy on real images, shifted by at most `shift` pixels (and flipped where the data
    allow it). A quarter of them have some noise; every fourth makes room for an image that shows
    nothing.

    Batches are a function of (seed, step), as in DiffusionModule.
    """

    def __init__(
        self,
        classifier: Classifier,
        train: ImageSet,
        *,
        seed: int,
        max_steps: int,
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        label_smoothing: float,
        shift: int,
        horizontal_flip: bool,
    ):
        super().__init__()
        self.classifier, self.train_set, self.seed = classifier, train, seed
        self.max_steps, self.batch_size, self.shift, self.horizontal_flip = (
            max_steps,
            batch_size,
            shift,
            horizontal_flip,
        )
        self.learning_rate, self.weight_decay, self.label_smoothing = (
            learning_rate,
            weight_decay,
            label_smoothing,
        )
        some = torch.linspace(0, len(train) - 1, min(len(train), 2000)).long()
        self.mean_image = to_model_range(
            train.take(some.to(train.labels.device)).images[:].cpu()
        ).mean(0)
        self.rows: list[dict] = []
        self.diverged_at: int | None = None

    def prepare(self) -> None:
        self.classifier.train()

    def converged(self) -> bool:
        return False

    def training_step(self, batch: object, batch_idx: int) -> Tensor:
        g = randomness.generator_for(self.seed, "oracle", self.global_step)
        index = torch.randint(len(self.train_set), (self.batch_size,), generator=g)
        dy, dx = torch.randint(
            2 * self.shift + 1,
            (2,),
            generator=randomness.generator_for(self.seed, "shift", self.global_step),
        ).tolist()
        flip = torch.rand(self.batch_size, generator=g) < 0.5
        mine = distributed.my_slice(self.batch_size)
        x_0, labels = self._real(index[mine])
        self._put(x_0, index, VEILED, negatives.veiled)
        empty = self._put(x_0, index, EMPTY, partial(negatives.draw, self.mean_image))
        labels[empty] = self.classifier.config["num_classes"]
        h, w = x_0.shape[-2:]
        x_0 = F.pad(x_0, (self.shift,) * 4, mode="replicate")[:, :, dy : dy + h, dx : dx + w]
        if self.horizontal_flip:
            x_0 = torch.where(flip[mine].view(-1, 1, 1, 1).to(self.device), x_0.flip(-1), x_0)
        randomness.reseed(self.seed * 1_000_003 + self.global_step, self.device)
        features = self.classifier.features(x_0)  # dropout, too, is drawn for the global batch
        kept = self.classifier.dropout(features.new_ones(self.batch_size, features.shape[1]))[mine]
        loss = F.cross_entropy(
            self.classifier.head(features * kept), labels, label_smoothing=self.label_smoothing
        )
        self.last_losses = {"cross_entropy": loss.detach()}
        return loss

    def _real(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Training images in [-1, 1] and labels, on the device."""
        batch = self.train_set.take(index.to(self.train_set.labels.device))
        return to_model_range(batch.images[:].to(self.device)), batch.labels.to(
            self.device, copy=True
        )

    def _put(
        self,
        x_0: Tensor,
        index: Tensor,
        places: slice,
        make: Callable[[Tensor, torch.Generator], Tensor],
    ) -> Tensor:
        """What is made of the training images at these places of the global batch into this
        process's part of it, x_0; where it is there. Each process makes all of it, so that it is
        the same for any number of them."""
        at, mine = torch.arange(self.batch_size)[places], distributed.my_slice(self.batch_size)
        made = make(
            self._real(index[at])[0].cpu(),
            randomness.generator_for(self.seed, "made", places.start, self.global_step),
        )
        here = (at >= mine.start) & (at < mine.stop)
        place = (at[here] - mine.start).to(self.device)
        x_0[place] = made[here].to(self.device)
        return place

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(
            self.classifier.parameters(), self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.max_steps
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["unrelearn"] = {"rows": self.rows}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self.rows = checkpoint["unrelearn"]["rows"]


def new_classifier(seed: int, **arguments) -> Classifier:
    """A classifier whose initial weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(**arguments)
