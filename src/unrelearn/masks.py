"""Which weights may move: masks over the trainable weights, made once before the first step.

Any method takes `saliency_fraction` and `fisher_ratio`; without them all weights move. `blocks`
(method.Method) freezes whole parts.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

Mask = dict[str, Tensor]  # parameter name -> bool, like the parameter; False entries never move
Named = Sequence[tuple[str, nn.Parameter]]


def saliency(
    network: nn.Module, losses: Iterable[Tensor], fraction: float, *, snip: bool = False
) -> Mask:
    """The weights whose losses pull most at them: True for the top `fraction` of those that are
    trained.

    SalUn (arXiv 2310.12508), Eq. 3-4, as released: network in evaluation mode, one pass over D_f,
    the gradient of each batch clipped to norm 1, signed gradients summed, then one global ranking
    of absolute values.

    Args:
        losses: of one batch after the other, each computed when it is asked for.
        snip: rank by |w| times the sum of each batch's |gradient|, unclipped: Scissorhands (arXiv
            2401.06187), as released.
    """
    training = network.training
    network.eval()
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += (
                gradient.abs() * parameters[name].detach().abs()
                if snip
                else gradient / norm.clamp(min=1.0)
            )
    network.train(training)
    ranking = torch.cat([value.abs().flatten() for value in total.values()])
    keep = max(1, round(fraction * len(ranking)))
    mask = torch.zeros_like(ranking, dtype=torch.bool)
    mask[ranking.topk(keep).indices] = True  # exactly `keep`, also where values tie
    parts = mask.split([p.numel() for p in parameters.values()])
    return {
        name: part.view_as(p) for part, (name, p) in zip(parts, parameters.items(), strict=True)
    }


def fisher_ratio(
    forget: dict[str, Tensor], retain: dict[str, Tensor], threshold: float, names: Iterable[str]
) -> Mask:
    """The weights that matter more for the forget set than for the retain set: F_f > threshold F_r.

    SFR-on (Huang et al. 2024, arXiv 2409.19732), where a weight that matters for neither is in the
    mask; here it is not.

    Args:
        forget, retain: the diagonal Fisher information of the starting model, of each weight.
        names: the parameters that are trained.
    """
    return {name: forget[name] > threshold * retain[name] for name in names}


def both(one: Mask, other: Mask | None) -> Mask:
    """The weights in both masks."""
    return one if other is None else {name: part & other[name] for name, part in one.items()}


def apply(mask: Mask | None, trained: Named) -> None:
    """Take the gradient from every weight outside of the mask."""
    for name, parameter in trained:
        if mask and name in mask and parameter.grad is not None:
            parameter.grad.mul_(mask[name])


@contextlib.contextmanager
def held(mask: Mask | None, trained: Named) -> Iterator[None]:
    """Weights outside of the mask are after the block what they were before it, to the bit.

    A gradient of zero does not hold a weight: momentum and weight decay move it all the same.
    """
    masked = [(p, mask[name]) for name, p in trained if name in mask] if mask else []
    before = [p.detach().clone() for p, _ in masked]
    yield
    with torch.no_grad():
        for (parameter, moving), value in zip(masked, before, strict=True):
            parameter.copy_(torch.where(moving, parameter, value))
