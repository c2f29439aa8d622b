"""A classifier of others judges: the share of images generated under c_f that a network of
torchvision takes for c_f, among all classes it knows and among those of the data set alone.

Published numbers of Imagenette are such: ResNet-50 on ImageNet, of 1,000 classes (Gandikota et al.
2023, arXiv 2303.07345; Fan et al. 2024, arXiv 2310.12508). Among 1,000 a church may be called a
monastery, so that a class seems gone that is only drawn less clearly; among ten it must be one of
them, and nothing is always something. Images are resized and cut as the weights want them.
"""

import functools
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrelearn.evals.evidence import Evidence, accuracy
from unrelearn.ranges import Count


def run(
    evidence: Evidence, file: str, weights: str, classes: list[int], batch_size: Count = 64
) -> dict[str, Any]:
    """By guidance scale; `retained` where retained classes were drawn at it.

    Args:
        file: the published state dict, .pth (loaded safely) or .safetensors.
        weights: its name in torchvision, which says the network and how images are prepared.
        classes: number of the network's class for each class of the data set, in order.
    """
    look = functools.partial(logits, network(file, weights), weights, batch_size=batch_size)
    result: dict[str, Any] = {}
    for scale in evidence.forget:
        result[scale] = _shares(evidence, f"forget/{scale}", look, classes)
        if scale in evidence.retain:
            result[scale]["retained"] = _shares(evidence, f"retain/{scale}", look, classes)
    return result


def _shares(evidence: Evidence, stream: str, look: Any, classes: list[int]) -> dict[str, Any]:
    answer, labels = look(evidence.drawn[stream]), evidence.drawn[f"{stream}/labels"].cpu()
    among = answer[:, classes].argmax(1)
    wanted = torch.tensor(classes)[labels]
    return {**accuracy(answer.argmax(1), wanted), "among": accuracy(among, labels)}


@torch.inference_mode()
def logits(network: nn.Module, weights: str, images: Tensor, batch_size: int) -> Tensor:
    """(N, classes of the network) float32 on the CPU, of uint8 images (N, 1 or 3, H, W)."""
    from torchvision.models import get_weight

    prepare, device = get_weight(weights).transforms(), next(network.parameters()).device
    answers = [
        network(prepare(part.expand(-1, 3, -1, -1)).to(device)).cpu()
        for part in images.split(batch_size)
    ]
    return torch.cat(answers)


def network(file: str, weights: str) -> nn.Module:
    """In evaluation mode, on a GPU if there is one.

    Raises:
        ValueError: the file does not fit.
    """
    from torchvision.models import get_model

    built = get_model(weights.split("_Weights.")[0].lower(), weights=None)
    try:
        built.load_state_dict(_read(Path(os.path.expanduser(file))))
    except Exception as error:  # of files that are none, whatever the reader raises
        raise ValueError(" ".join(str(error).split())[:200]) from error
    return built.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def known_classes(weights: str) -> int:
    """How many the network of these weights tells apart."""
    from torchvision.models import get_weight

    return len(get_weight(weights).meta["categories"])


@functools.cache  # every run of a grid is checked
def check(file: str, weights: str) -> tuple[str, str] | None:
    """(key, why) of what does not fit."""
    from torchvision.models import get_weight

    try:
        get_weight(weights)
    except (ValueError, KeyError):
        return "weights", "is no weights of torchvision, as ResNet50_Weights.IMAGENET1K_V2"
    if not Path(os.path.expanduser(file)).is_file():
        return "file", "no such file"
    try:
        network(file, weights)
    except ValueError as error:
        return "file", f"is not {weights} ({error})"
    return None
