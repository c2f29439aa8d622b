"""A small classifier of digits, a fifth of which have wrong labels, with a method and data."""

import copy
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from unrelearn.classification.classifying import Classifying, ClassifyingTask, unit
from unrelearn.classification.networks import Network, NetworkConfig, build
from unrelearn.data import ImageData
from unrelearn.data.digits import Digits
from unrelearn.method import Method

LEARNED = Path(__file__).parent / "golden" / "classification" / "learned.safetensors"
CONFIG = NetworkConfig("fast", 8, 10, widths=(4, 6, 8))
SMALL = dict(max_steps=4, batch_size=16, learning_rate=0.05)


@lru_cache
def data() -> ImageData:
    return Digits(label_noise=0.2).load()


def network(seed: int = 3) -> Network:
    return build(CONFIG, seed)


@lru_cache
def _learned() -> Network:
    """Its weights are kept: eighty steps of training end elsewhere on another CPU, whose last bits
    differ.
    """
    model = network()
    if os.environ.get("UNRELEARN_GOLDEN") == "write":
        _train(model)
        save_file(model.state_dict(), LEARNED)
    model.load_state_dict(load_file(LEARNED))
    return model.train()


def _train(model: Network) -> None:
    train = data().train
    optimizer = torch.optim.SGD(model.train().parameters(), 0.1, momentum=0.9)
    for step in range(80):
        some = torch.arange(60) + 60 * (step % 5)
        optimizer.zero_grad()
        F.cross_entropy(model(unit(train.images[some])), train.labels[some]).backward()
        optimizer.step()


def learned() -> Network:
    """A network that was trained on the 300 images of `new_task`."""
    return copy.deepcopy(_learned())


def linear(seed: int = 3, image_size: int = 8) -> Network:
    """A linear model: its features are the pixels, times 2 less 1."""
    config = NetworkConfig("linear", image_size, 10)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network(config, nn.Flatten(), image_size**2)


def new_task(classes: tuple[int, ...] = (), *, seed: int = 0, **changes) -> ClassifyingTask:
    """Forget these classes; or, where there are none, the first 40 images, of 300."""
    train = data().train.take(torch.arange(300))
    forget, retain = train.take(torch.arange(40)), train.take(torch.arange(40, 300))
    if classes:
        forget, retain = (train.of_classes(list(classes), keep=keep) for keep in (True, False))
    given = dict(network=network(), forget=forget, retain=retain, forget_classes=list(classes))
    return ClassifyingTask(**{**given, **changes}, class_names=data().class_names, seed=seed)


def classifying(method: Method, task: ClassifyingTask | None = None) -> Classifying:
    return Classifying(method, task or new_task())


def trained_by_hand(
    module: Classifying, loss: Callable[[Network, int], Tensor]
) -> dict[str, Tensor]:
    """PyTorch's own loop from the module's network: loss(network, number of the step)."""
    network, method = copy.deepcopy(module.network).train(), module.method
    optimizer = torch.optim.SGD(
        network.parameters(), method.learning_rate, momentum=0.9, weight_decay=5e-4
    )
    for step in range(method.max_steps):
        optimizer.zero_grad()
        loss(network, step).backward()
        clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
    return network.state_dict()


def assert_close(ours: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5, msg=name)
