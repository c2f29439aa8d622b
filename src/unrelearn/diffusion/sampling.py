"""Guided sampling with per-image seeds and diffusers' schedulers.

Image i always starts from noise i, and draws the noise of a stochastic sampler from its own
generator: the same image comes out whatever the batch size, the number of devices, or the images
beside it. Models can therefore be compared on common noise. The guidance scale is diffusers' s = 1
+ w (Ho & Salimans 2022, arXiv 2207.12598): eps = eps(null) + s (eps(c) - eps(null)); s = 1 is the
plain conditional model and costs one forward pass, any other s one batched forward pass of twice
the size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from unrelearn import distributed
from unrelearn.data import to_model_range, to_uint8
from unrelearn.diffusion.denoiser import Denoiser, null_label, predict
from unrelearn.diffusion.maths import add_noise
from unrelearn.randomness import generator_for

SAMPLERS = {
    "ddim": DDIMScheduler,
    "ddpm": DDPMScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
}


def make_scheduler(name: str, schedule: dict, clip_sample: bool = True):
    """A diffusers scheduler for the noise schedule the model was trained with.

    schedule: keyword arguments of diffusers' DDPMScheduler (num_train_timesteps, beta_start,
    beta_end, beta_schedule, prediction_type). "trailing" spacing starts at t = T - 1, which matters
    at few steps (Lin et al. 2023, arXiv 2305.08891).
    """
    if name == "dpmsolver++":
        return DPMSolverMultistepScheduler(
            **schedule, algorithm_type="dpmsolver++", timestep_spacing="trailing"
        )
    return SAMPLERS[name](**schedule, clip_sample=clip_sample, timestep_spacing="trailing")


OFF_GRID_STEPS, FEWEST_OFF_GRID = 3, 10


def off_grid_images(share: float, num_images: int) -> int:
    """How many of the images under c_f are drawn at other times: that share, at least ten, at most
    half; none for 0.
    """
    return min(max(FEWEST_OFF_GRID, round(share * num_images)), num_images // 2) if share else 0


def off_grid_steps(num_inference_steps: int, num_train_timesteps: int) -> int:
    """Steps of another time grid: three more, or fewer where there are no more times."""
    more = num_inference_steps + OFF_GRID_STEPS
    return more if more <= num_train_timesteps else max(1, num_inference_steps - OFF_GRID_STEPS)


def sampler_words(sampler: dict) -> str:
    """``dpmsolver++, 13 steps``."""
    return f"{sampler['name']}, {sampler['num_inference_steps']} steps"


@dataclass(frozen=True)
class Job:
    """Images that one sampler draws at one guidance scale: `labels` (N,), image k of them from
    noise `first + k` of `noise`.
    """

    stream: str
    scale: float
    labels: Tensor
    name: str
    num_inference_steps: int
    noise: str
    first: int = 0

    @property
    def passes(self) -> int:
        """Forward passes of one image that it takes."""
        return len(self.labels) * self.num_inference_steps * (1 if self.scale == 1 else 2)


def jobs(
    sampler: dict,
    forget_classes: list[int],
    num_classes: int,
    num_train_timesteps: int,
    from_images: bool = False,
) -> list[Job]:
    """What is drawn of a model, by a configuration's `sampler`; the jobs of a stream and scale
    follow each other.

    forget: under c_f, the classes in turn; the last ones at other times (off_grid_images), as a
        method could unlearn at the sampler's few times alone.
    retain: of the other classes.
    other_sampler: under c_f by `second`.
    other_starts, with from_images, for an attack that starts from images: as "forget", noise and
    times too, from others.
    """

    def labels(classes: list[int], n: int) -> Tensor:
        return torch.tensor(classes).repeat(-(-n // len(classes)))[:n]

    name, steps, n = (sampler[key] for key in ("name", "num_inference_steps", "num_images"))
    asked_for, off = labels(forget_classes, n), off_grid_images(sampler["off_grid_share"], n)
    kept = [c for c in range(num_classes) if c not in forget_classes]
    other_times, found = off_grid_steps(steps, num_train_timesteps), []

    def forgotten(stream: str) -> None:
        for scale in sampler["guidance_scales"]:
            found.append(Job(stream, scale, asked_for[: n - off], name, steps, "forget"))
            if off:
                found.append(
                    Job(stream, scale, asked_for[n - off :], name, other_times, "forget", n - off)
                )

    forgotten("forget")
    retained = labels(kept, len(kept) * sampler["images_per_retained_class"])
    found += [
        Job("retain", scale, retained, name, steps, "retain")
        for scale in sampler["retain_guidance_scales"]
    ]
    if second := sampler["second"]:
        some = labels(forget_classes, second["num_images"])
        found += [
            Job(
                "other_sampler",
                scale,
                some,
                second["name"],
                second["num_inference_steps"],
                "other_sampler",
            )
            for scale in sampler["guidance_scales"]
        ]
    if from_images:
        forgotten("other_starts")
    return found


_fitting: dict[
    tuple, int
] = {}  # (network, image size, device) -> the largest batch that fitted, found once a process


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
        seed, stream, first: image k of this call is image `first + k` of the noise stream (seed,
            stream).
        batch_size: images drawn at once; None: as many as make a forward pass of 250 on the CPU; on
            a GPU 2048, halved while they do not fit.
        progress: called with the number of images finished since the last call.
        start: images uint8 (M, C, H, W) to start from, noised, instead of pure noise; image k of
            the stream starts from number k mod M (SDEdit, Meng et al. 2022, arXiv 2108.01073).
            None: pure noise.
        start_time: to which share of T they are noised, in (0, 1]: to the sampler's latest time
            below it, or its last.

    Returns:
        uint8 (N, C, H, W) on the CPU.
    """
    device = next(denoiser.parameters()).device
    shape = (denoiser.config.in_channels, denoiser.config.sample_size, denoiser.config.sample_size)
    kind = (sum(p.numel() for p in denoiser.parameters()), shape, str(device))
    if batch_size is None:
        # on a CPU 250 images in one forward pass are faster than 500, which leave its caches
        batch_size = _fitting.get(
            kind, 2048 if device.type == "cuda" else 250 if guidance_scale == 1.0 else 125
        )

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
            x_0 = to_model_range(start[torch.arange(first + begin, first + end) % len(start)]).to(
                device
            )
            x_t = add_noise(
                x_0,
                noise,
                times[:1].expand(len(x_0)).to(device),
                scheduler.alphas_cumprod.to(device),
            )
        for t in times:
            x_in = scheduler.scale_model_input(x_t, t)
            if guidance_scale == 1.0:
                output = predict(denoiser, x_in, t, condition)
            else:
                both = predict(denoiser, torch.cat([x_in, x_in]), t, torch.cat([condition, null]))
                conditional, unconditional = both.chunk(2)
                output = unconditional + guidance_scale * (conditional - unconditional)
            x_t = scheduler.step(
                output, t, x_t, generator=generators, return_dict=False, **options
            )[0]
        return to_uint8(x_t).cpu()

    training = denoiser.training
    denoiser.eval()
    images, done = (
        [torch.empty((0, *shape), dtype=torch.uint8)],
        0,
    )  # a process may have no image to draw
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


def draw_all(
    denoiser: Denoiser,
    sampler: dict,
    todo: list[Job],
    starts: dict[str, Tensor],
    start_time: float | None,
    **options,
) -> dict[str, Tensor]:
    """The images of all jobs, shared out over the processes.

    starts: of an attack that starts from images, "images" and "others" uint8 (M, C, H, W), the
    latter of retained classes;
    else empty. options: of `sample`.

    Returns:
        "forget/1.0": uint8 (N, C, H, W) and beside it "forget/1.0/labels" (N,) int64, of each
        stream and scale; of those under c_f by the first sampler "off_grid" (N,) bool, and where
        they were started from images "start" (N,) int64: from which.
    """
    parts: dict[str, list[tuple[Job, Tensor]]] = {}
    for job in todo:
        begin = (
            {}
            if job.stream == "retain" or not starts
            else {
                "start": starts["others" if job.stream == "other_starts" else "images"],
                "start_time": start_time,
            }
        )
        mine = distributed.my_slice(len(job.labels))
        images = sample(
            denoiser,
            job.labels[mine],
            name=job.name,
            num_inference_steps=job.num_inference_steps,
            eta=sampler["eta"],
            clip_sample=sampler["clip_sample"],
            guidance_scale=job.scale,
            seed=sampler["seed"],
            stream=job.noise,
            first=job.first + mine.start,
            **begin,
            **options,
        )
        parts.setdefault(f"{job.stream}/{float(job.scale)}", []).append(
            (job, distributed.gather(images))
        )
    tensors = {}
    for name, drawn in parts.items():
        tensors[name] = torch.cat([images for _, images in drawn])
        tensors[f"{name}/labels"] = torch.cat([job.labels for job, _ in drawn])
        if drawn[0][0].noise == "forget":
            tensors[f"{name}/off_grid"] = torch.cat(
                [torch.full((len(job.labels),), job.first > 0) for job, _ in drawn]
            )
            if starts:
                tensors[f"{name}/start"] = torch.arange(len(tensors[name])) % len(starts["images"])
    return tensors
