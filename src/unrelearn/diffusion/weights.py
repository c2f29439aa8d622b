"""What a method did to the weights, in a few numbers: how far they moved, in which units, and
whether relearning can see it.
"""

import torch

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.canonical import projections
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING, Denoiser

TIMES = 20  # at which conditions are compared, evenly spread


@torch.no_grad()
def compare(original: Denoiser, network: Denoiser, forgotten: list[int], steps: int) -> dict:
    """
    Args:
        original, network: two networks of one architecture.
        forgotten: labels.
        steps: T; times are below it.

    Returns:
        norm_ratio: smallest and largest ratio of a weight tensor's norm to the original's; far from
            1, the weights were written in other units, whatever the function is. change: |theta -
            theta_0| / |theta_0| over all weights.
        class_rows_changed: whether the class table's rows of forgotten labels differ.
            projection_change: the mean over blocks and times (of prompts: over the keys and values
            of cross-attention and their tokens) of |(W - W_0) s(t, c)| / |W_0 s(t, c)|
            for forgotten and for all other labels, the null one too; where the second is far below
            the first, data of the retained classes excite next to nothing of the change, and no
            attack that trains on them can undo it.
    """
    before, after = (
        {name: value for name, value in one.state_dict().items() if value.is_floating_point()}
        for one in (original, network)
    )
    ratios = [
        (after[name].norm() / norm).item()
        for name, weight in before.items()
        if weight.ndim >= 2 and (norm := weight.norm()) > 0
    ]
    moved = sum(
        (after[name] - weight).double().square().sum().item() for name, weight in before.items()
    )
    whole = sum(weight.double().square().sum().item() for weight in before.values())
    rows = (state[CLASS_EMBEDDING][forgotten] for state in (before, after))
    return {
        "norm_ratio": [min(ratios), max(ratios)],
        "change": (moved / whole) ** 0.5,
        "class_rows_changed": not torch.equal(*rows),
        "projection_change": _projection_change(original, network, forgotten, steps),
    }


def _readers(network: Denoiser) -> list:
    """The linear layers that read what a condition stands for."""
    if denoisers.reads_text(network):
        keys = (".attn2.to_k", ".attn2.to_v")
        return [layer for name, layer in network.named_modules() if name.endswith(keys)]
    return [layer for block in network.modules() for layer in projections(block)]


def _projection_change(
    original: Denoiser, network: Denoiser, forgotten: list[int], steps: int
) -> dict:
    count = len(original.class_embedding.weight)
    labels = torch.arange(count).repeat_interleave(TIMES).to(original.device)
    times = torch.linspace(0, steps - 1, TIMES).long().repeat(count).to(original.device)
    if denoisers.reads_text(original):
        s = original.class_embedding(labels)
    else:
        s = denoisers.embedding(original, times, labels)
    pairs = list(zip(_readers(original), _readers(network), strict=True))
    change = sum(
        (s @ (b.weight - a.weight).T).norm(dim=-1) / (s @ a.weight.T).norm(dim=-1) for a, b in pairs
    )
    change = (change / max(1, len(pairs))).cpu().view(len(labels), -1).mean(1)
    gone = torch.isin(labels.cpu(), torch.tensor(forgotten))
    return {"forgotten": change[gone].mean().item(), "retained": change[~gone].mean().item()}
