"""The images of a run: decoded once if they are many, and where the device can reach them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.data import ImageData
from unrelearn.run import Run
from unrelearn.stage import Stage

if TYPE_CHECKING:
    from unrelearn.stages.latents import Latents
    from unrelearn.stages.memorise import Memorisation


class OfData(Stage):
    """What is made of the data set alone."""

    @property
    def what(self) -> str:
        return self.run.names["dataset"]


class Decode(OfData):
    """The files of a data set that is too large to be decoded in every run."""

    name = "dataset"

    def config(self) -> dict[str, Any]:
        return self.run.data_slice

    def make(self, folder: Path) -> dict[str, Any]:
        dataset, name = self.run.dataset, self.run.names["dataset"]

        def decode() -> int:
            with progress.bar(f"decode {name}", dataset.num_images()) as advance:
                return dataset.decode(folder, advance)

        left_out = distributed.on_main(decode)
        if left_out:
            progress.say(f"{name}: {left_out} broken images are left out")
        return {"images_left_out": left_out}


def files(run: Run) -> list[Stage]:
    """What must be there before the images can be read."""
    return [Decode(run)] if hasattr(run.dataset, "decode") else []


def decoded(run: Run) -> list[Stage]:
    """What must be there before they can be told into those to forget and to retain."""
    return [*files(run), *_latents(run), *_known(run)]


def _known(run: Run) -> "list[Memorisation]":
    if not str(run.cfg.forget).startswith("memorised:"):
        return []
    from unrelearn.stages.memorise import Memorisation

    return [Memorisation(run)]


def _latents(run: Run) -> "list[Latents]":
    from unrelearn.stages.latents import latents

    return latents(run)


def images(run: Run) -> ImageData:
    """The images of a run, as its models see them, and what is known of them."""
    encoded = _latents(run)
    data = run.once(encoded[0].name, encoded[0].read) if encoded else stored(run)
    for known in _known(run):
        scores = run.once(known.name, known.read)
        data = replace(data, memorisation=scores)
    return run.once("split", lambda: run.kind.divided(data))


def stored(run: Run) -> ImageData:
    """The images of a run as uint8, on the device if they take less than half of what is free
    there; else they stay where they are, in the host's memory or mapped from disk, and are read
    ahead by a thread.
    """
    return run.once("images", lambda: _load(run))


def _load(run: Run) -> ImageData:
    stages = files(run)
    loaded = run.dataset.open(stages[0].build().path) if stages else run.dataset.load()
    sizes = [math.prod(part.images.shape) for part in (loaded.train, loaded.test)]
    place, fits = "in memory", True
    if run.device.type == "cuda":
        fits = sum(sizes) < torch.cuda.mem_get_info(run.device)[0] / 2
        name = torch.cuda.get_device_name()
        place = f"on {name}" if fits else "in the host's memory, read ahead"
    if not isinstance(loaded.train.images, Tensor) and (run.device.type == "cpu" or not fits):
        place = "mapped from disk, read ahead"
    progress.say(
        f"{run.names['dataset']}: {len(loaded.train)} training and {len(loaded.test)} test"
        f" images, {sum(sizes) / 2**20:.1f} MiB, {place}"
    )
    train, test = (part.to(run.device) if fits else part for part in (loaded.train, loaded.test))
    return ImageData(train, test, loaded.class_names, loaded.true_labels)
