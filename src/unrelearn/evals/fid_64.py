"""FID in 64 features: the Frechet distance of evals/fid.py, of what the first three convolutions of
the Inception network see, averaged over the image.

torchmetrics' FID with feature=64, which SalUn's code for Stable Diffusion calls FID (Fan et al.
2024, arXiv 2310.12508); not comparable with one of 2048 features. Not copied of that code: it casts
images in [-1, 1] to bytes, so that its network sees nearly black ones. The layers are those of
torch-fidelity's conversion of Szegedy et al. 2015 (arXiv 1512.00567), resized to 299 pixels as its
bilinear filter does: without antialiasing, the first pixels on each other. Ours: the reference and
the floor are those of every distance here (evals/fd_oracle.py).
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrelearn.evals.evidence import Evidence
from unrelearn.evals.fd_oracle import compare

TARGET = "unrelearn.evals.fid_64.run"
NAME = "weights-inception-2015-12-05-6726825d.pth"
RELEASE = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
SIZE, CLASSES = 299, 1008  # torchvision's, of other weights, has 1,000
LAYERS = {  # name -> channels in and out, stride, padding; each 3 x 3
    "Conv2d_1a_3x3": (3, 32, 2, 0),
    "Conv2d_2a_3x3": (32, 32, 1, 0),
    "Conv2d_2b_3x3": (32, 64, 1, 1),
}


def run(evidence: Evidence, file: str) -> dict[str, Any]:
    """file: NAME, which `Early` reads."""
    return compare(evidence, "early")


class Early:
    """The first layers on a device: uint8 images (N, 1 or 3, H, W) -> float32 (N, 64) on the CPU.

    Raises:
        ValueError: the file does not hold them.
    """

    def __init__(self, file: str, device: torch.device | str):
        self.device, self.layers = torch.device(device), nn.ModuleDict()
        for name, (channels, out, stride, padding) in LAYERS.items():
            convolution = nn.Conv2d(channels, out, 3, stride, padding, bias=False)
            parts = {"conv": convolution, "bn": nn.BatchNorm2d(out, eps=0.001)}
            self.layers[name] = nn.ModuleDict(parts)
        try:
            state = torch.load(Path(os.path.expanduser(file)), "cpu", weights_only=True)
            if len(state["fc.bias"]) != CLASSES:
                raise ValueError(f"has {len(state['fc.bias'])} classes, and that {CLASSES}")
            mine = {name: state[name] for name in self.layers.state_dict() if name in state}
            self.layers.load_state_dict(mine)
        except Exception as error:  # of files that are none, whatever the reader raises
            raise ValueError(" ".join(str(error).split())[:200]) from error
        self.layers.eval().to(self.device)

    @torch.inference_mode()
    def __call__(self, images: Tensor, batch_size: int = 64) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([self._features(part) for part in images.split(batch_size)])

    def _features(self, images: Tensor) -> Tensor:
        x = images.to(self.device).expand(-1, 3, -1, -1).float()
        x = (_resized(_resized(x, 2), 3) - 128) / 128
        for layer in self.layers.values():
            assert isinstance(layer, nn.ModuleDict)
            x = layer["bn"](layer["conv"](x)).relu()
        return nn.functional.max_pool2d(x, 3, 2).mean((2, 3)).cpu()


def _resized(x: Tensor, dimension: int) -> Tensor:
    """Linearly along one dimension: pixel i is taken from i / SIZE of the way."""
    length = x.shape[dimension]
    place = torch.arange(SIZE, device=x.device) * (length / SIZE)
    below = place.floor().long()
    above = (below + 1).clamp(max=length - 1)
    shape = [-1 if one == dimension else 1 for one in range(4)]
    weight = (place - below).view(shape)
    low, high = (x.index_select(dimension, index) for index in (below, above))
    return low + (high - low) * weight


def asked(measurements: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """Its name among the measurements of a run, and the file; None where it is not one of them."""
    for name, given in measurements.items():
        if isinstance(given, Mapping) and given.get("_target_") == TARGET:
            return name, str(given.get("file"))
    return None


@functools.cache  # every run of a grid is checked
def check(file: str) -> str | None:
    """What is wrong with a file."""
    if not Path(os.path.expanduser(file)).is_file():
        return f"no such file, and none is fetched here; it is {RELEASE}{NAME}"
    try:
        Early(file, "cpu")
    except ValueError as error:
        return f"is not {NAME} ({error})"
    return None
