"""What Stable Diffusion needs before anything is trained: the states of all captions, the latents
of all images, and the denoiser itself, read once from a folder of diffusers.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unrelearn import distributed, progress
from unrelearn.data import ImageData, ImageSet
from unrelearn.diffusion import clip, pipelines
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.latents import AT_ONCE, factor_of
from unrelearn.diffusion.pipelines import TABLE_FILE
from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.images import OfData, files, stored
from unrelearn.stages.imported import Import

FILE, PARTS = "latents.safetensors", ("train", "test")


class EncodedCaptions(OfData):
    """The states that the text encoder makes of each class's captions, and of the empty one."""

    name = "captions"
    seconds = 10.0

    def config(self) -> dict[str, Any]:
        kind: Any = self.run.kind
        read = pipelines.hashes(kind.folder, "text_encoder", "tokenizer")
        return {"captions": kind.captions.captions, "encoder": read}

    def make(self, folder: Path) -> dict[str, Any]:
        kind: Any = self.run.kind
        captions = kind.captions
        ids = captions.ids(captions.length)
        encoder = pipelines.encoder(kind.folder).to(self.run.device)
        weight = clip.states(encoder, ids.flatten(0, 1)).unflatten(0, ids.shape[:2])
        if distributed.is_main():
            save_file({"weight": weight.contiguous(), "ids": ids}, folder / TABLE_FILE)
        return {"tokens": captions.length}


class Latents(OfData):
    """The images of a data set as the autoencoder encodes them."""

    name = "latents"
    seconds = 60.0

    def needs(self) -> list[Stage]:
        return files(self.run)

    def config(self) -> dict[str, Any]:
        kind: Any = self.run.kind
        vae = pipelines.hashes(kind.folder, "vae")
        return {"dataset": self.run.data_slice, "vae": vae, "of": "mode"}

    def make(self, folder: Path) -> dict[str, Any]:
        kind: Any = self.run.kind
        data, codec = stored(self.run), kind.codec(self.run.device)
        shares = {part: distributed.my_slice(len(getattr(data, part))) for part in PARTS}
        total = sum(share.stop - share.start for share in shares.values())
        tensors: dict[str, Tensor] = {}
        with progress.bar(f"encode {self.what}", total) as advance:
            for part, share in shares.items():
                held: ImageSet = getattr(data, part)
                encoded = []
                for start in range(share.start, share.stop, AT_ONCE):
                    pixels = held.images[start : min(start + AT_ONCE, share.stop)]
                    encoded.append(codec.encode(pixels))
                    advance(len(pixels))
                tensors[f"{part}/images"] = distributed.gather(torch.cat(encoded))
                tensors[f"{part}/labels"] = held.labels.cpu()
                if held.wordings is not None:
                    tensors[f"{part}/wordings"] = held.wordings.cpu()
        if distributed.is_main():
            save_file(tensors, folder / FILE)
        return {"deviation": tensors["train/images"].float().std().item()}

    def read(self) -> ImageData:
        tensors = load_file(self.build().path / FILE)
        train, test = (
            ImageSet(
                tensors[f"{part}/images"],
                tensors[f"{part}/labels"],
                tensors.get(f"{part}/wordings"),
            ).to(self.run.device)
            for part in PARTS
        )
        return ImageData(train, test, tuple(self.run.dataset.class_names))


class ImportStable(Import):
    """The denoiser, with the captions; it draws images of the data set's size."""

    def parents(self) -> list[Stage]:
        return [EncodedCaptions(self.run)]

    def weights_read(self) -> dict[str, Any]:
        read = pipelines.hashes(self.path, "unet", "vae", "scheduler")
        return {"checkpoint": read, "image_size": self.run.dataset.image_size}

    def make(self, folder: Path) -> dict[str, Any]:
        run = self.run
        network = pipelines.network(self.path)
        network.read_table(EncodedCaptions(run).build().path)
        side = run.dataset.image_size // factor_of(pipelines.config_of(self.path, "vae"))
        network.register_to_config(sample_size=side)
        if distributed.is_main():
            denoisers.save(network, folder / "raw", run.slice(run.cfg.model.schedule))
        return {"weights": "raw"}


def latents(run: Run) -> list[Latents]:
    """The stage, of a model of latents."""
    return [] if run.cfg.model.latent is None else [Latents(run)]
