"""Which weights may move: masks over the trainable weights, made once before the first step.

Any method takes `saliency_fraction` and `fisher_ratio`; without them all weights move. `blocks`
(module.DiffusionModule) freezes whole parts.
"""

import itertools

import torch
from torch import Tensor

from unrelearn import randomness
from unrelearn.data import to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion import maths


def saliency(
    module,
    fraction: float,
    guidance_scale: float,
    *,
    snip: bool = False,
    batches: int | None = None,
) -> dict[str, Tensor]:
    """The weights that matter most for the forget set: parameter name -> bool, True for the top
    `fraction`.

    SalUn (arXiv 2310.12508), Eq. 3-4, as released: network in evaluation mode, one pass over D_f,
    the gradient of each batch clipped to norm 1, signed gradients summed, then one global ranking
    of absolute values. The loss is that of the guided prediction (released w = 2, i.e.
    guidance_scale = 3).

    snip: rank by |w| times the sum of each batch's |gradient|, unclipped: Scissorhands (arXiv
        2401.06187), as released.
    batches: of the pass over D_f only the first so many; None: all.
    """
    task, network = module.task, module.denoiser
    network.eval()
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    starts = range(0, len(task.forget), module.batch_size)
    for number, start in itertools.islice(enumerate(starts), batches):
        part = slice(start, start + module.batch_size)
        x_0 = to_model_range(task.forget.images[part].to(module.device))
        labels = task.forget.labels[part].to(module.device)
        g = randomness.generator_for(task.seed, "saliency", number, device=x_0.device)
        t = torch.randint(
            task.schedule["num_train_timesteps"], labels.shape, generator=g, device=x_0.device
        )
        noise = torch.randn(x_0.shape, generator=g, device=x_0.device)
        x_t = maths.add_noise(x_0, noise, t, module.alphas_cumprod)
        null = torch.full_like(labels, len(task.class_names))
        both = denoisers.predict(
            network, torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([labels, null])
        )
        conditional, unconditional = both.chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        kind = task.schedule["prediction_type"]
        wanted = maths.target(x_0, noise, t, module.alphas_cumprod, kind)
        gradients = torch.autograd.grad(
            (guided - wanted).square().mean(), list(parameters.values())
        )
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))
        for name, gradient in zip(parameters, gradients, strict=True):
            total[name] += (
                gradient.abs() * parameters[name].detach().abs()
                if snip
                else gradient / norm.clamp(min=1.0)
            )
    network.train()
    ranking = torch.cat([value.abs().flatten() for value in total.values()])
    keep = max(1, round(fraction * len(ranking)))
    mask = torch.zeros_like(ranking, dtype=torch.bool)
    mask[ranking.topk(keep).indices] = True  # exactly `keep`, also where values tie
    parts = mask.split([p.numel() for p in parameters.values()])
    return {
        name: part.view_as(p) for part, (name, p) in zip(parts, parameters.items(), strict=True)
    }


def fisher_ratio(module, threshold: float) -> dict[str, Tensor]:
    """The weights that matter more for the forget set than for the retain set: parameter name ->
    bool.

    F_f > threshold * F_r, each a diagonal Fisher information (`fisher.diagonal`) of the starting
    model, from the same times and noises. SFR-on (Huang et al. 2024, arXiv 2409.19732), where a
    weight that matters for neither is in the mask; here it is not.
    """
    task = module.task
    forget, retain = (
        module.fisher(data, images=name, forget=task.forget_classes)
        for name, data in (("forget", task.forget), ("retain", task.retain))
    )
    return {
        name: forget[name] > threshold * retain[name]
        for name, p in module.denoiser.named_parameters()
        if p.requires_grad
    }
