"""A network that somebody else trained: which row of its class table is which class, and whether
its answers agree with that, and with what they are said to predict.

A denoiser is a classifier: of all labels the right one gives the lowest denoising loss (Li et al.
2023, "Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv 2303.16203, Eq. 5). So real
images of the retained classes say in which order the labels stand, where no file does.
"""

import math
from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from unrelearn.data import ImageSet
from unrelearn.diffusion.checkpoint import PREDICTIONS
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING, Denoiser, predict
from unrelearn.diffusion.maths import add_noise, alphas_of, target
from unrelearn.randomness import generator_for

TIMES = (0.35, 0.5)  # shares of T; earlier ones tell epsilon from v badly, later ones no class
IMAGES, CLASSES = 16, 20  # images of each of at most so many retained classes
SURE = 3.0  # standard errors by which another order must be better, on images it was not chosen by


def rows(
    class_names: Sequence[str], labels: Sequence[str | int] | None, null_label: str
) -> list[int]:
    """The rows of their table in our order: each class of the data set, then "no class".

    Args:
        labels: class names in the order of their labels; None: as the data set has them.
        null_label: where "no class" stands: "last", "first" or "none". In the last case the last
            class's row stands in, which nobody may read.
    """
    first, names = int(null_label == "first"), [*map(str, labels or class_names)]
    null = {"last": len(names), "first": 0, "none": len(names) - 1}[null_label]
    return [*(first + names.index(name) for name in class_names), null]


def in_order(network: Denoiser, order: Sequence[int]) -> Denoiser:
    """The network with these rows of its table, and so with one for "no class" at the end."""
    if list(order) == list(range(network.config.num_class_embeds)):
        return network
    state = network.state_dict()
    state[CLASS_EMBEDDING] = state[CLASS_EMBEDDING][torch.tensor(order)].clone()
    settings = {**network.config, "num_class_embeds": len(order)}
    ordered = type(network).from_config(settings)
    ordered.load_state_dict(state)
    return ordered.eval()


def probes(data: ImageSet, retained: Sequence[int]) -> ImageSet:
    """The first images of each retained class; of many classes, those of the first."""
    per_class = [torch.where(data.labels == c)[0][:IMAGES] for c in retained[:CLASSES]]
    return data.take(torch.cat(per_class))


@torch.inference_mode()
def errors(network: Denoiser, x_0: Tensor, row: int, schedule: dict) -> Tensor:
    """Mean squared error of each kind of prediction, over that of answering nought: (3, N), the
    mean over TIMES, at noise that is the same for every row.

    x_0: (N, C, H, W) in [-1, 1]. row: of the class table, which all images are given.
    """
    alphas, total = alphas_of(schedule).to(x_0.device), torch.zeros(len(PREDICTIONS), len(x_0))
    label = torch.full((len(x_0),), row, device=x_0.device)
    for number, share in enumerate(TIMES):
        t = torch.full_like(label, int(share * len(alphas)))
        g = generator_for("theirs", number)
        noise = torch.randn(x_0.shape, generator=g).to(x_0.device)
        answer = predict(network, add_noise(x_0, noise, t, alphas), t, label)
        for place, kind in enumerate(PREDICTIONS):
            wanted = target(x_0, noise, t, alphas, kind)
            error = (answer - wanted).square().mean((1, 2, 3)) / wanted.square().mean()
            total[place] += error.cpu() / len(TIMES)
    return total


def other_prediction(seen: Tensor, prediction_type: str) -> str | None:
    """What a network seems to predict instead of what is said; None if it does not.

    seen: (3, N), of `errors`.
    """
    mean = dict(zip(PREDICTIONS, seen.mean(1).tolist(), strict=True))
    best = min(mean, key=lambda kind: mean[kind])
    clear = mean[best] < 0.7 and mean[best] < 0.5 * mean[prediction_type]
    return best if clear and best != prediction_type else None


def other_order(
    seen: Tensor, labels: Tensor, current: Sequence[int], null_label: str
) -> tuple[list[int], str] | None:
    """The classes' rows as they seem to stand, where that is surely not as they are said to.

    Chosen on every other image, and believed only if it is better on the rest.

    Args:
        seen: (R, N) errors of each image under each row of their table.
        labels: (N,) classes of the images.
        current: row of each class.
        null_label: "none" if the table has no other rows than the classes'.

    Returns:
        (row of each class, "last", "first" or "none"). Of classes of which there is no image (the
        forgotten ones) the rows that are left, in their order.
    """
    shown, half = labels.unique().tolist(), torch.arange(len(labels)) % 2 == 0
    options = []
    for null in ("none",) if null_label == "none" else ("last", "first"):
        shift = int(null == "first")
        hidden = [row - min(current) + shift for c, row in enumerate(current) if c not in shown]
        cost = torch.stack([_cost(seen[:, half & (labels == c)], hidden) for c in shown])
        chosen = linear_sum_assignment(cost[:, shift : shift + len(current)].numpy())[1] + shift
        options.append((cost[torch.arange(len(shown)), chosen].sum().item(), null, chosen))
    _, null, chosen = min(options, key=lambda option: option[0])
    row_of = dict(zip(shown, map(int, chosen), strict=True))
    moved = ~half & torch.tensor([row_of[c] != current[c] for c in labels.tolist()])
    numbers = torch.where(moved)[0]
    under_current = seen[[current[c] for c in labels[numbers].tolist()], numbers]
    under_chosen = seen[[row_of[c] for c in labels[numbers].tolist()], numbers]
    if not _surely_above(under_current - under_chosen):
        return None
    first = int(null == "first")
    left = iter(sorted({*range(first, first + len(current))} - set(row_of.values())))
    return [row_of[c] if c in row_of else next(left) for c in range(len(current))], null


def _cost(seen: Tensor, hidden: Sequence[int]) -> Tensor:
    """Mean error of a class's images (R, N) under each row. Under the row of a class of which there
    is no image, only if it is surely the best: who is asked for what was forgotten may be shown
    this class instead, and then both rows fit.
    """
    cost = seen.mean(1)
    others = cost.clone()
    others[list(hidden)] = math.inf
    best = int(others.argmin())
    for row in hidden:
        if not _surely_above(seen[best] - seen[row]):
            cost[row] = cost[best] + seen.std()
    return cost


def _surely_above(gain: Tensor) -> bool:
    """Whether the mean of (N,) differences is above nought by more than chance."""
    return len(gain) > 1 and bool(gain.mean() > SURE * gain.std() / math.sqrt(len(gain)))
