"""Stable Diffusion 1 and 2 from a folder of diffusers, as a kind of model: captions and images are
encoded once, and all else is a denoiser that reads captions.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.config.models import Latent
from unrelearn.data import ImageData
from unrelearn.diffusion import pipelines
from unrelearn.diffusion.captions import captions_of
from unrelearn.diffusion.clip import ClipCaptions
from unrelearn.diffusion.latents import Codec, factor_of
from unrelearn.diffusion.prompt_kind import Prompted
from unrelearn.method import Method


class StableDiffusion(Prompted):
    batches = ("Denoising", "Captioned")  # its encoder is not at hand once captions are encoded
    parts = ("schedule", "latent")

    @property
    def latent(self) -> Latent:
        assert self.cfg.model.latent is not None
        return self.cfg.model.latent

    @property
    def folder(self) -> Path:
        return Path(self.cfg.model.checkpoint or "")

    @cached_property
    def captions(self) -> ClipCaptions:
        return ClipCaptions(captions_of(self.dataset, self.latent.caption).captions, self.folder)

    def codec(self, device: torch.device) -> Codec:
        codec = pipelines.codec(self.folder)
        codec.vae.to(device)
        return codec

    def finish(self, device: torch.device) -> Any:
        return self.codec(device).decode

    def cost(self) -> tuple[int, int]:
        return _cost(self.folder, self.dataset.image_size)

    def task(self, data: ImageData, **given: Any) -> Any:
        # the mirror image of a latent is no latent of the mirrored image
        return super().task(data, **{**given, "horizontal_flip": False})

    def training(self, method: Method, task: Any) -> Any:
        from unrelearn.diffusion.prompting import Captioned

        if self.latent.gradient_checkpointing:
            task.network.enable_gradient_checkpointing()
        return Captioned(method, task)


def _cost(folder: Path, image_size: int) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights), on the meta device."""
    from unrelearn.diffusion.prompts import StateTable
    from unrelearn.diffusion.stable import shape_of

    there = (folder / "unet" / "config.json").is_file()
    network = shape_of(pipelines.config_of(folder, "unet") if there else None).eval()
    factor = factor_of(pipelines.config_of(folder, "vae")) if there else 8
    side, width = image_size // factor, network.config.cross_attention_dim
    with torch.device("meta"):
        network.class_embedding = StateTable(1, 1, 77, width)
        z = torch.empty(1, network.config.in_channels, side, side)
        zero = torch.zeros(1, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(z, zero, zero)
    weights = sum(p.numel() for p in network.parameters())
    return counter.get_total_flops(), weights - network.class_embedding.weight.numel()
