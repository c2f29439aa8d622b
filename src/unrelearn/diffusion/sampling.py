"""Guided sampling with per-image seeds and diffusers' schedulers.

Image i always starts from noise i, and draws the noise of a stochastic sampler from its own
generator: the same image comes out whatever the batch size, the number of devices, or the images
beside it. Models can therefore be compared on common noise. The guidance scale is diffusers' s = 1
+ w (Ho & Salimans 2022, arXiv 2207.12598): eps = eps(null) + s (eps(c) - eps(null)); s = 1 is the
plain conditional model and costs one forward pass, any other s one batched forward pass of twice
the size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from unrelearn.data import to_model_range, to_uint8
from unrelearn.diffusion.denoiser import Denoiser, is_latent, null_label, predict
from unrelearn.diffusion.maths import add_noise
from unrelearn.randomness import generator_for

# the classes of diffusers, which is imported where something is drawn
SAMPLERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpmsolver++": "DPMSolverMultistepScheduler",
    "lms": "LMSDiscreteScheduler",
}


def make_scheduler(name: str, schedule: dict, clip_sample: bool = True):
    """A diffusers scheduler for the noise schedule the model was trained with.

    schedule: keyword arguments of diffusers' DDPMScheduler (num_train_timesteps, beta_start,
    beta_end, beta_schedule, prediction_type). "trailing" spacing starts at t = T - 1, which matters
    at few steps (Lin et al. 2023, arXiv 2305.08891); "lms" is for numbers beside published
    ones, and spaced as there.
    """
    import diffusers

    kind = getattr(diffusers, SAMPLERS[name])
    if name == "lms":
        return kind(**schedule, timestep_spacing="linspace")
    own = {"algorithm_type": name} if name == "dpmsolver++" else {"clip_sample": clip_sample}
    return kind(**schedule, **own, timestep_spacing="trailing")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How images are drawn.

    Args:
        name: a key of SAMPLERS; eta (0 deterministic, 1 ancestral) is read by "ddim" only.
        seed, stream, first: image k of a call is image `first + k` of the noise stream (seed,
            stream).
        batch_size: images drawn at once; None: as many as make a forward pass of 250 on the CPU; on
            a GPU 2048, halved while they do not fit.
        fitting: kind of network -> the largest batch that fitted, once found; who hands in the same
            at every call has it found once.
        progress: called with the number of images finished since the last call.
        start: images uint8 (M, C, H, W) to start from, noised, instead of pure noise; image k of
            the stream starts from number k mod M (SDEdit, Meng et al. 2022, arXiv 2108.01073).
            None: pure noise.
        start_time: to which share of T they are noised, in (0, 1]: to the sampler's latest time
            below it, or its last.
        finish: x_0 (B, C, H, W) -> what is returned of it; None: in the form in which the network's
            data are kept, uint8 of pixels and float16 of latents.
    """

    schedule: dict
    name: str = "ddim"
    num_inference_steps: int = 20
    eta: float = 0.0
    clip_sample: bool = True
    guidance_scale: float = 1.0
    seed: int | str = 0
    stream: str = "image"
    first: int = 0
    batch_size: int | None = None
    fitting: dict[tuple, int] = field(default_factory=dict)
    progress: Callable[[int], None] = lambda images: None
    start: Tensor | None = None
    start_time: float = 1.0
    finish: Callable[[Tensor], Tensor] | None = None

    def batch(self, denoiser: Denoiser, labels: Tensor, begin: int) -> Tensor:
        """Images begin, begin + 1, ... of this call, one for each label."""
        device = labels.device
        numbers = range(self.first + begin, self.first + begin + len(labels))
        generators = [generator_for(self.seed, self.stream, k) for k in numbers]
        shape = image_shape(denoiser)
        noise = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(device)
        clip = self.clip_sample and not is_latent(denoiser)
        scheduler = make_scheduler(self.name, self.schedule, clip)
        scheduler.set_timesteps(self.num_inference_steps, device="cpu")
        options: dict[str, Any] = {} if self.name == "lms" else {"generator": generators}
        options |= {"eta": self.eta} if self.name == "ddim" else {}
        x_t, times = noise * scheduler.init_noise_sigma, scheduler.timesteps
        if self.start is not None:
            x_0 = to_model_range(self.start[torch.tensor(numbers) % len(self.start)]).to(device)
            x_t, times = self._noised(x_0, noise, scheduler)
        for t in times:
            output = self.guided(denoiser, scheduler.scale_model_input(x_t, t), t, labels)
            x_t = scheduler.step(output, t, x_t, return_dict=False, **options)[0]
        return self.finished(denoiser, x_t)

    def finished(self, denoiser: Denoiser, x_0: Tensor) -> Tensor:
        if self.finish is not None:
            return self.finish(x_0).cpu()
        return (x_0.half() if is_latent(denoiser) else to_uint8(x_0)).cpu()

    def guided(self, denoiser: Denoiser, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The network's answer, guided: eps(null) + s (eps(c) - eps(null))."""
        if self.guidance_scale == 1.0:
            return predict(denoiser, x_t, t, labels)
        null = torch.full_like(labels, null_label(denoiser))
        both = predict(denoiser, torch.cat([x_t, x_t]), t, torch.cat([labels, null]))
        conditional, unconditional = both.chunk(2)
        return unconditional + self.guidance_scale * (conditional - unconditional)

    def _noised(self, x_0: Tensor, noise: Tensor, scheduler) -> tuple[Tensor, Tensor]:
        """x_0 at the first time that is left, and the times that are left."""
        times = scheduler.timesteps
        skipped = int((times >= round(self.start_time * len(scheduler.alphas_cumprod))).sum())
        skipped = min(skipped, len(times) - 1)
        if hasattr(scheduler, "set_begin_index"):  # those that count their steps
            scheduler.set_begin_index(skipped)
        if self.name == "lms":  # whose states are x_0 and so much noise
            return x_0 + scheduler.sigmas[skipped] * noise, times[skipped:]
        t = times[skipped : skipped + 1].expand(len(x_0)).to(x_0.device)
        x_t = add_noise(x_0, noise, t, scheduler.alphas_cumprod.to(x_0.device))
        return x_t, times[skipped:]


def image_shape(denoiser: Denoiser) -> tuple[int, int, int]:
    """(channels, height, width) of what it draws."""
    config = denoiser.config
    return config.in_channels, config.sample_size, config.sample_size


@torch.inference_mode()
def sample(denoiser: Denoiser, labels: Tensor, **settings: Any) -> Tensor:
    """Generate one image per label.

    Args:
        labels: (N,) int64 conditions.
        settings: of Sampling; `schedule` is one that must be given.

    Returns:
        uint8 (N, C, H, W) on the CPU; of a network of latents these, float16, unless
        `settings.finish` decodes them.
    """
    sampling = Sampling(**settings)
    device = next(denoiser.parameters()).device
    shape = image_shape(denoiser)
    kind = (sum(p.numel() for p in denoiser.parameters()), shape, str(device))
    # on a CPU 250 images in one forward pass are faster than 500, which leave its caches
    default = 250 if sampling.guidance_scale == 1.0 else 125
    default = 2048 if device.type == "cuda" else default
    size = sampling.batch_size or sampling.fitting.get(kind, default)
    # a process may have no image to draw
    images, done = [sampling.finished(denoiser, torch.empty((0, *shape)))], 0
    training = denoiser.training
    denoiser.eval()
    try:
        while done < len(labels):
            part = labels[done : done + size].to(device)
            drawn = _if_it_fits(sampling, denoiser, part, done)
            if drawn is None:
                size = sampling.fitting[kind] = len(part) // 2
                continue
            images.append(drawn)
            sampling.progress(len(part))
            done += len(part)
    finally:
        denoiser.train(training)
    return torch.cat(images)


def _if_it_fits(
    sampling: Sampling, denoiser: Denoiser, labels: Tensor, begin: int
) -> Tensor | None:
    """A batch of images; None if the device has too little memory for more than one."""
    try:
        return sampling.batch(denoiser, labels, begin)
    except torch.cuda.OutOfMemoryError:
        if len(labels) == 1:
            raise
        torch.cuda.empty_cache()
        return None
