"""Stable Diffusion 1 and 2 from a folder of diffusers, as a kind of model: captions and images are
encoded once, and all else is a denoiser that reads captions.
"""

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.config.models import Latent
from unrelearn.data import ImageData
from unrelearn.diffusion import pipelines, step_memory
from unrelearn.diffusion.captions import captions_of
from unrelearn.diffusion.clip import ClipCaptions
from unrelearn.diffusion.denoiser import TABLE
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

    def memory(self, method: Method) -> dict[str, int]:
        from unrelearn.diffusion.denoising import CHOSEN

        if method.identity or not method.max_steps:
            return {}
        trainer, mixed = self.cfg.trainer, self.cfg.precision != "32-true"
        batch = -(-method.batch_size // trainer.devices)
        if trainer.batch_size_per_device is not None:
            batch = min(batch, trainer.batch_size_per_device)
        network, side = _blank(self.folder, self.dataset.image_size)
        own = [p for name, p in network.named_parameters() if not name.startswith(TABLE)]
        moves = CHOSEN[method.parameters]
        trained = [p for name, p in network.named_parameters() if moves(name) and method.passes[0]]
        weights, moving = (
            sum(p.numel() for p in some if p.requires_grad) for some in (own, trained)
        )
        terms = max(1, round(method.passes[0]))
        dtype = torch.bfloat16 if mixed else torch.float32
        # by torch: that of diffusers warns of what matters to weights
        torch.nn.Module.to(network.train(), dtype)
        z, t, labels = step_memory.blank(network, side, terms * batch)
        checkpointing = self.latent.gradient_checkpointing
        kept = step_memory.activations(network, z.to(dtype), t, labels, checkpointing=checkpointing)
        return step_memory.of_training(weights, moving, kept, mixed=mixed)


def _blank(folder: Path, image_size: int) -> tuple[Any, int]:
    """The network on the meta device with one caption, and the side of its latents; of a folder
    that is not here yet that of Stable Diffusion 1.
    """
    from unrelearn.diffusion.prompts import StateTable
    from unrelearn.diffusion.stable import shape_of

    there = (folder / "unet" / "config.json").is_file()
    network = shape_of(pipelines.config_of(folder, "unet") if there else None)
    factor = factor_of(pipelines.config_of(folder, "vae")) if there else 8
    with torch.device("meta"):
        network.class_embedding = StateTable(1, 1, 77, network.config.cross_attention_dim)
    network.class_embedding.requires_grad_(False)
    return network, image_size // factor


@lru_cache
def _cost(folder: Path, image_size: int) -> tuple[int, int]:
    """(FLOPs of one forward pass of one image, number of weights), on the meta device."""
    network, side = _blank(folder, image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(*step_memory.blank(network, side, 1))
    weights = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return counter.get_total_flops(), weights
