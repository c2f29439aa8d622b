"""The classifiers that say which class a generated image shows, and whose features Frechet and
kernel distances use.

Two of them: the oracle, and a held-out one of another architecture and seed that no method, attack
or tuning ever sees. Both are trained on one half of the real training images (all classes; the
other half is what distances compare with) and on images that show nothing (negatives.py), for which
they have an output of their own, after those of the classes. They are reported with their accuracy
on real test images.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unrelearn.data import ImageSet, to_model_range


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


class _Standardised(nn.Conv2d):
    """A convolution whose weights have mean 0 and length 1 for each output, whatever is learned
    (Qiao et al. 2019, arXiv 1903.10520): with GroupNorm it learns about as fast as with BatchNorm,
    and a batch in several processes is the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-4)
        return nn.functional.conv2d(x, weight, padding=1)


def _standardised(a: int, b: int) -> nn.Module:
    convolution = _Standardised(a, b, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(8, b), nn.GELU())


class _Shortcut(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(_standardised(width, width), _standardised(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _level(architecture: str, a: int, b: int, first: bool) -> list[nn.Module]:
    """From a to b channels; the first level keeps the image's size, each other one halves it."""
    half = [] if first else [nn.MaxPool2d(2)]
    if architecture == "resnet":
        return [_standardised(a, b), *half, *([] if first else [_Shortcut(b)])]
    if architecture == "plain":
        return [*half, _convolution(a, b), _convolution(b, b)]
    return [*half, _Residual(a, b)]


def sums_of(values: list[list[int]]) -> Tensor:
    """(V + 1, K + 1) of 0 and 1: of which values each class is the combination; the last one is
    "nothing".
    """
    columns = [nn.functional.one_hot(column) for column in torch.tensor(values).unbind(1)]
    return torch.block_diag(torch.cat(columns, 1).T.float(), torch.ones(1, 1))


class Classifier(nn.Module):
    """A small convolutional classifier of (B, channels, S, S) images in [-1, 1]; class num_classes
    is "nothing".

    Args:
        architecture: "plain" (two convolutions a level, as in VGG), "residual" (one
            pre-activation block a level) or "resnet" (for photographs: weights standardised, a
            convolution and a block of two a level).
        image_size: S; the image is halved until 4 pixels are left or the fourth level is reached.
        width: channels of the first level, doubled at each further one up to 8 x width.
        values: of each class the number of each attribute's value, where classes are all
            combinations of some: the logit of a class is then the sum of those of its values, as
            of a head for each attribute.
    """

    def __init__(
        self,
        *,
        architecture: str,
        image_size: int,
        channels: int,
        num_classes: int,
        width: int,
        values: list[list[int]] | None = None,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.config = dict(
            architecture=architecture,
            image_size=image_size,
            channels=channels,
            num_classes=num_classes,
            width=width,
            **({"values": values} if values else {}),
        )
        size, b, layers = image_size, width, _level(architecture, channels, width, first=True)
        while size >= 8 and b < 8 * width:
            layers += _level(architecture, b, 2 * b, first=False)
            b, size = 2 * b, size // 2
        self.body = nn.Sequential(
            *layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * b, 64), nn.SiLU()
        )
        self.dropout = nn.Dropout(0.2)
        self.parts = sums_of(values) if values else None
        self.head = nn.Linear(64, num_classes + 1 if self.parts is None else len(self.parts))

    def features(self, x_0: Tensor) -> Tensor:
        """(B, 64), the activations before the last layer."""
        return self.body(x_0)

    def forward(self, x_0: Tensor) -> Tensor:
        """Logits (B, num_classes + 1), the last one of "nothing"."""
        return self.logits(self.dropout(self.features(x_0)))

    def logits(self, features: Tensor) -> Tensor:
        logits = self.head(features)
        return logits if self.parts is None else logits @ self.parts.to(logits)

    @torch.inference_mode()
    def look(self, images: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
        """Of uint8 images: probabilities (N, K + 1) of the classes and nothing, and features (N,
        64), float64 on the CPU.
        """
        device = self.head.weight.device
        features = torch.cat(
            [self.features(to_model_range(part.to(device))) for part in images.split(batch_size)]
        )
        return self.logits(features).double().softmax(1).cpu(), features.double().cpu()

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


def new_classifier(seed: int, **arguments) -> Classifier:
    """A classifier whose initial weights are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classifier(**arguments)
