"""The network eps_theta(x_t, t, c): diffusers' UNet2DModel with one embedding row per class and one null row.

Row `num_classes` of the class embedding is the null label of classifier-free guidance. Weights are written in
diffusers' own format, so `UNet2DModel.from_pretrained(folder)` reads them with no line of ours.
"""

from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor

CLASS_EMBEDDING = "class_embedding.weight"  # the parameter's name in UNet2DModel: (num_classes + 1, time embedding)


def build(
    *,
    image_size: int,
    channels: int,
    num_classes: int,
    block_out_channels: list[int],
    layers_per_block: int,
    norm_num_groups: int,
    attention_levels: list[int],
    dropout: float,
) -> UNet2DModel:
    """A UNet for (B, channels, image_size, image_size) images and num_classes classes.

    Args:
        block_out_channels: width of each resolution level; the image is halved between levels.
        attention_levels: levels (0 = full resolution) with self-attention; the middle block follows if any is given.
    """
    levels = range(len(block_out_channels))
    down = tuple("AttnDownBlock2D" if i in attention_levels else "DownBlock2D" for i in levels)
    return UNet2DModel(
        sample_size=image_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(block_out_channels),
        layers_per_block=layers_per_block,
        norm_num_groups=norm_num_groups,
        down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        add_attention=bool(attention_levels),
        attention_head_dim=None if not attention_levels else 8 * max(1, min(block_out_channels) // 32),
        dropout=dropout,
        num_class_embeds=num_classes + 1,
    )


def predict(denoiser: UNet2DModel, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """The network's answer (B, C, H, W) at noisy images x_t, times t (B,) and labels (B,) in [0, num_classes]."""
    return denoiser(x_t, t, class_labels=labels, return_dict=False)[0]


def null_label(denoiser: UNet2DModel) -> int:
    return denoiser.config.num_class_embeds - 1


def save(denoiser: UNet2DModel, folder: Path, schedule: dict) -> None:
    """Write config.json and safetensors weights, with the noise schedule beside them as a diffusers scheduler."""
    denoiser.save_pretrained(folder, safe_serialization=True)
    DDPMScheduler(**schedule).save_pretrained(folder)


def load(folder: Path) -> UNet2DModel:
    """Read weights written by save() or by diffusers; float32, in evaluation mode."""
    return UNet2DModel.from_pretrained(folder, low_cpu_mem_usage=False, torch_dtype=torch.float32).eval()


def reinitialise(denoiser: UNet2DModel, seed: int) -> None:
    """Give every weight its random initial value, a function of the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = UNet2DModel.from_config(denoiser.config)
    denoiser.load_state_dict(fresh.state_dict())
