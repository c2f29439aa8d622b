"""What is drawn of a model by a configuration's `sampler`: jobs of one sampler and scale each."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unrelearn import distributed
from unrelearn.diffusion.denoiser import Denoiser, null_label

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
    paraphrases: Sequence[int] = (),
) -> list[Job]:
    """What is drawn of a model, by a configuration's `sampler`; the jobs of a stream and scale
    follow each other.

    forget: under c_f, the classes in turn, if there are any; the last ones at other times
        (off_grid_images), as a method could unlearn at the sampler's few times alone.
    retain: of the other classes.
    other_sampler: under c_f by `second`.
    paraphrase: under these conditions, which mean c_f in other words; as many as under c_f.
    other_starts, with from_images, for an attack that starts from images: as "forget", noise and
    times too, from others.
    """

    asked_for = _in_turn(forget_classes, sampler["num_images"])
    kept = [c for c in range(num_classes) if c not in forget_classes]
    retained = _in_turn(kept, len(kept) * sampler["images_per_retained_class"])
    name, steps = sampler["name"], sampler["num_inference_steps"]
    scales, retain_scales = sampler["guidance_scales"], sampler["retain_guidance_scales"]
    todo = _forgotten("forget", sampler, asked_for, num_train_timesteps) if forget_classes else []
    todo += [Job("retain", scale, retained, name, steps, "retain") for scale in retain_scales]
    if forget_classes and (second := sampler["second"]):
        some = _in_turn(forget_classes, second["num_images"])
        other, name, steps = "other_sampler", second["name"], second["num_inference_steps"]
        todo += [Job(other, scale, some, name, steps, other) for scale in scales]
    if paraphrases:
        reworded = _in_turn(list(paraphrases), sampler["num_images"])
        name, steps, other = sampler["name"], sampler["num_inference_steps"], "paraphrase"
        todo += [Job(other, scale, reworded, name, steps, other) for scale in scales]
    if from_images:
        todo += _forgotten("other_starts", sampler, asked_for, num_train_timesteps)
    return todo


def _in_turn(classes: list[int], n: int) -> Tensor:
    return torch.tensor(classes, dtype=torch.long).repeat(-(-n // max(1, len(classes))))[:n]


def _forgotten(stream: str, sampler: dict, labels: Tensor, num_train_timesteps: int) -> list[Job]:
    """Under c_f at each scale: most images at the sampler's times, the last ones at other times."""
    name, steps, n = sampler["name"], sampler["num_inference_steps"], len(labels)
    off = off_grid_images(sampler["off_grid_share"], n)
    other = off_grid_steps(steps, num_train_timesteps)
    todo = []
    for scale in sampler["guidance_scales"]:
        todo.append(Job(stream, scale, labels[: n - off], name, steps, "forget"))
        if off:
            todo.append(Job(stream, scale, labels[n - off :], name, other, "forget", n - off))
    return todo


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
    from unrelearn.diffusion.sampling import sample

    parts: dict[str, list[tuple[Job, Tensor]]] = {}
    for job in todo:
        if job.stream == "retain" or not starts:
            begin = {}
        else:
            chosen = "others" if job.stream == "other_starts" else "images"
            begin = {"start": starts[chosen], "start_time": start_time}
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
        name = f"{job.stream}/{float(job.scale)}"
        parts.setdefault(name, []).append((job, distributed.gather(images)))
    tensors: dict[str, Tensor] = {}
    rows = null_label(denoiser) + 1
    for name, drawn in parts.items():
        tensors |= _together(name, drawn, len(starts["images"]) if starts else 0, rows)
    return tensors


def _together(
    name: str, drawn: list[tuple[Job, Tensor]], starts: int, rows: int
) -> dict[str, Tensor]:
    """Of one stream and scale; starts: how many images they were started from; rows: of the table,
    by which a label is told into class and wording.
    """
    images = torch.cat([images for _, images in drawn])
    labels = torch.cat([job.labels for job, _ in drawn])
    tensors = {name: images, f"{name}/labels": labels % rows}
    if (labels >= rows).any():
        tensors[f"{name}/wording"] = labels // rows
    if drawn[0][0].noise == "forget":
        off = [torch.full((len(job.labels),), job.first > 0) for job, _ in drawn]
        tensors[f"{name}/off_grid"] = torch.cat(off)
        if starts:
            tensors[f"{name}/start"] = torch.arange(len(images)) % starts
    return tensors
