"""Images as latents: encoded once by the autoencoder of a latent diffusion model, decoded where
they are looked at (Rombach et al. 2022, arXiv 2112.10752).
"""

import torch
from torch import Tensor, nn

from unrelearn.data import to_model_range, to_uint8

AT_ONCE = 16  # images


class Codec:
    """vae: an AutoencoderKL; its latents are multiplied by its own scaling_factor.

    A latent is the mode of the posterior, where training scripts of diffusers sample it anew in
    every step: its deviation is far below that of latents, and one image then has one latent.
    """

    def __init__(self, vae: nn.Module):
        self.vae = vae.requires_grad_(False).eval()

    @property
    def factor(self) -> int:
        """How many pixels a latent stands for, along a side."""
        return factor_of(self.vae.config)

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """uint8 (N, C, H, W) -> float16 (N, c, H / factor, W / factor) on the CPU."""
        parts = []
        for part in images.split(AT_ONCE):
            x = to_model_range(part.to(self.vae.device))
            mode = self.vae.encode(x).latent_dist.mode()
            parts.append((mode * self.vae.config.scaling_factor).half().cpu())
        return torch.cat(parts).contiguous()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(N, c, h, w), any float -> uint8 (N, C, H, W) on the CPU."""
        c, (h, w) = self.vae.config.out_channels, latents.shape[2:]
        images = [torch.empty((0, c, h * self.factor, w * self.factor), dtype=torch.uint8)]
        with torch.autocast(self.vae.device.type, enabled=False):  # half precision shows in pixels
            for part in latents.split(AT_ONCE):
                if len(part):
                    z = part.to(self.vae.device).float() / self.vae.config.scaling_factor
                    images.append(to_uint8(self.vae.decode(z).sample).cpu())
        return torch.cat(images)


def factor_of(config: dict) -> int:
    """How many pixels a latent stands for, along a side, by an autoencoder's config.json."""
    return 2 ** (len(config["block_out_channels"]) - 1)
