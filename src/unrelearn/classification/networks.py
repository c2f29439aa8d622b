"""Networks that classify images in [0, 1].

Mean and deviation of the colours live in the network, so that a step in pixels means the same for
all. Each has `features(x)`, (B, F), the activations before its last layer, and `head`, that layer;
its logits are head(features(x)), (B, num_classes).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from unrelearn.classification import batch_norm
from unrelearn.errors import UsageError

STEM = 24  # channels of the first convolution of `fast`


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is built from.

    Args:
        name: fast, resnet18_cifar or vgg16_bn.
        image_size: height and width in pixels: at least 2; at least 16 for vgg16_bn.
        mean, std: of the channels of images in [0, 1]; one number each.
        widths: channels of the three groups of `fast`.
    """

    name: str
    image_size: int
    num_classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    widths: tuple[int, int, int] = (16, 64, 64)

    @property
    def channels(self) -> int:
        return len(self.mean)


class Network(nn.Module):
    """Normalisation, a body that makes features, and a linear head."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig, body: nn.Module, num_features: int):
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(config.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(-1, 1, 1))
        self.body = body
        self.head = nn.Linear(num_features, config.num_classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, F) of images (B, C, S, S) in [0, 1]."""
        return self.body((x - self.mean) / self.std)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes)."""
        return self.head(self.features(x))


class _Scale(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def _group(a: int, b: int) -> list[nn.Module]:
    return [
        nn.Conv2d(a, b, 3, padding=1, bias=False),
        nn.MaxPool2d(2, ceil_mode=True),  # a row of one pixel stays
        nn.BatchNorm2d(b),
        nn.GELU(),
        nn.Conv2d(b, b, 3, padding=1, bias=False),
        nn.BatchNorm2d(b),
        nn.GELU(),
    ]


def fast(config: NetworkConfig) -> Network:
    """Three groups convolution-pool-BatchNorm-GELU-convolution-BatchNorm-GELU behind a 2x2
    convolution, as in airbench (Jordan 2024, arXiv:2404.00498), with trained input filters.
    """
    first, second, third = config.widths
    body = nn.Sequential(
        nn.Conv2d(config.channels, STEM, 2),
        nn.GELU(),
        *_group(STEM, first),
        *_group(first, second),
        *_group(second, third),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        _Scale(1 / 9),  # airbench's factor on the logits
    )
    return Network(config, body, third)


def resnet18_cifar(config: NetworkConfig) -> Network:
    """ResNet-18 (He et al. 2015, arXiv:1512.03385) with a 3x3 first convolution of stride 1 and no
    max-pool, as SalUn's classification has it: 11.17 M parameters.
    """
    import torchvision  # seconds, for this network alone

    body = torchvision.models.resnet18(num_classes=config.num_classes)
    body.conv1 = nn.Conv2d(config.channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    num_features = body.fc.in_features
    body.maxpool, body.fc = nn.Identity(), nn.Identity()
    return Network(config, body, num_features)


def vgg16_bn(config: NetworkConfig) -> Network:
    """VGG-16 (Simonyan and Zisserman 2014, arXiv:1409.1556) with BatchNorm, four max-pools, a 2x2
    average pool and two layers of 256 before the head, as SalUn's classification has it.
    """
    layers: list[nn.Module] = []
    a = config.channels
    for number, (width, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers += [nn.MaxPool2d(2)] if number else []
        for _ in range(depth):
            layers += [nn.Conv2d(a, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU()]
            a = width
    layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    layers += [nn.Linear(4 * a, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    network = Network(config, nn.Sequential(*layers), 256)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.01)
            nn.init.zeros_(module.bias)
    return network


NETWORKS = {"fast": fast, "resnet18_cifar": resnet18_cifar, "vgg16_bn": vgg16_bn}


def build(config: NetworkConfig, seed: int) -> Network:
    """A network whose initial weights are a function of the seed."""
    if config.name not in NETWORKS:
        raise UsageError(
            f"classifier.name={config.name}: no such network; allowed: {', '.join(NETWORKS)}. Type"
            " classifier.name=fast"
        )
    if config.name == "vgg16_bn" and config.image_size < 16:
        raise UsageError(
            f"classifier.name=vgg16_bn: halves images four times, and these have"
            f" {config.image_size} pixels a side, of 16 at least. Type classifier.name=fast"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = NETWORKS[config.name](config)
    batch_norm.replace(network)
    return network


def save(network: Network, folder: Path) -> None:
    """Write config.json and model.safetensors, which load with torch alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(asdict(network.config), indent=1))
    weights = {name: value.contiguous().cpu() for name, value in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def load(folder: Path) -> Network:
    settings = json.loads((folder / "config.json").read_text())
    network = build(NetworkConfig(**settings), 0)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network
