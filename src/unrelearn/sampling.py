"""Guided sampling with per-image seeds and diffusers' schedulers.

Image i always starts from noise i, and draws the noise of a stochastic sampler from its own generator: the same
image comes out whatever the batch size, the number of devices, or the images beside it. Models can therefore be
compared on common noise. The guidance scale is diffusers' s = 1 + w (Ho & Salimans 2022, arXiv 2207.12598):
eps = eps(null) + s (eps(c) - eps(null)); s = 1 is the plain conditional model and costs one forward pass, any other
s one batched forward pass of twice the size.
"""

from collections.abc import Callable

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from unrelearn.data import to_model_range, to_uint8
from unrelearn.denoiser import Denoiser, null_label, predict
from unrelearn.diffusion import add_noise, generator_for

SAMPLERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}


def make_scheduler(name: str, schedule: dict, clip_sample: bool = True):
    """A diffusers scheduler for the noise schedule the model was trained with.

    schedule: keyword arguments of diffusers' DDPMScheduler (num_train_timesteps, beta_start, beta_end,
    beta_schedule, prediction_type). "trailing" spacing starts at t = T - 1, which matters at few steps (Lin et al.
    2023, arXiv 2305.08891).
    """
    if name == "dpmsolver++":
        return DPMSolverMultistepScheduler(**schedule, algorithm_type="dpmsolver++", timestep_spacing="trailing")
    return SAMPLERS[name](**schedule, clip_sample=clip_sample, timestep_spacing="trailing")


_fitting: dict[tuple, int] = {}  # (network, image size, device) -> the largest batch that fitted, found once a process


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    labels: Tensor,
    *,
    schedule: dict,
    name: str = "ddim",
    num_inference_steps: int = 20,
    eta: float = 0.0,
    clip_sample: bool = True,
    guidance_scale: float = 1.0,
    seed: int | str = 0,
    stream: str = "image",
    first: int = 0,
    batch_size: int | None = None,
    progress: Callable[[int], None] = lambda images: None,
    start: Tensor | None = None,
    start_time: float = 1.0,
) -> Tensor:
    """Generate one image per label.

    Args:
        labels: (N,) int64 conditions.
        name: a key of SAMPLERS; eta (0 deterministic, 1 ancestral) is read by "ddim" only.
        seed, stream, first: image k of this call is image `first + k` of the noise stream (seed, stream).
        batch_size: images drawn at once; None: as many as make a forward pass of 250 on the CPU; on a GPU 2048, halved
            while they do not fit.
        progress: called with the number of images finished since the last call.
        start: images uint8 (M, C, H, W) to start from, noised, instead of pure noise; image k of the stream starts from
            number k mod M (SDEdit, Meng et al. 2022, arXiv 2108.01073). None: pure noise.
        start_time: to which share of T they are noised, in (0, 1]: to the sampler's latest time below it, or its last.

    Returns:
        uint8 (N, C, H, W) on the CPU.
    """
    device = next(denoiser.parameters()).device
    shape = (denoiser.config.in_channels, denoiser.config.sample_size, denoiser.config.sample_size)
    kind = (sum(p.numel() for p in denoiser.parameters()), shape, str(device))
    if batch_size is None:
        # on a CPU 250 images in one forward pass are faster than 500, which leave its caches
        batch_size = _fitting.get(kind, 2048 if device.type == "cuda" else 250 if guidance_scale == 1.0 else 125)

    def draw(begin: int, end: int) -> Tensor:
        condition = labels[begin:end].to(device)
        generators = [generator_for(seed, stream, first + k) for k in range(begin, end)]
        x_t = noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
        null = torch.full_like(condition, null_label(denoiser))
        scheduler = make_scheduler(name, schedule, clip_sample)
        scheduler.set_timesteps(num_inference_steps, device="cpu")
        options = {"eta": eta} if name == "ddim" else {}
        times = scheduler.timesteps
        if start is not None:
            skipped = int((times >= round(start_time * len(scheduler.alphas_cumprod))).sum())
            skipped = min(skipped, len(times) - 1)
            if hasattr(scheduler, "set_begin_index"):  # those that count their steps
                scheduler.set_begin_index(skipped)
            times = times[skipped:]
            x_0 = to_model_range(start[torch.arange(first + begin, first + end) % len(start)]).to(device)
            x_t = add_noise(x_0, noise, times[:1].expand(len(x_0)).to(device), scheduler.alphas_cumprod.to(device))
        for t in times:
            x_in = scheduler.scale_model_input(x_t, t)
            if guidance_scale == 1.0:
                output = predict(denoiser, x_in, t, condition)
            else:
                both = predict(denoiser, torch.cat([x_in, x_in]), t, torch.cat([condition, null]))
                conditional, unconditional = both.chunk(2)
                output = unconditional + guidance_scale * (conditional - unconditional)
            x_t = scheduler.step(output, t, x_t, generator=generators, return_dict=False, **options)[0]
        return to_uint8(x_t).cpu()

    training = denoiser.training
    denoiser.eval()
    images, done = [torch.empty((0, *shape), dtype=torch.uint8)], 0  # a process may have no image to draw
    try:
        while done < len(labels):
            stop = min(done + batch_size, len(labels))
            try:
                images.append(draw(done, stop))
            except torch.cuda.OutOfMemoryError:
                if stop - done == 1:
                    raise
                torch.cuda.empty_cache()
                batch_size = _fitting[kind] = (stop - done) // 2
                continue
            progress(stop - done)
            done = stop
    finally:
        denoiser.train(training)
    return torch.cat(images)
