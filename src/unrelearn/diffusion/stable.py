"""The UNet of Stable Diffusion, called with labels: cross-attention reads the states of captions
that its own text encoder made once.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from unrelearn.diffusion.pipelines import TABLE_FILE
from unrelearn.diffusion.prompts import CaptionedUNet, StateTable


class StableUNet(CaptionedUNet):
    """UNet2DConditionModel of latents (B, 4, h, w), with a table of captions (StateTable) beside
    its weights: what it writes is a folder of plain diffusers, and the table in a file of its own.
    """

    latent = True
    class_embedding: Any  # a StateTable, once captions are read

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        table, self.class_embedding = self.class_embedding, None
        try:
            super().save_pretrained(save_directory, **options)
        finally:
            self.class_embedding = table
        save_file(table.state_dict(), Path(save_directory) / TABLE_FILE)

    def read_table(self, folder: Path) -> None:
        """Put the captions in whose states lie in a folder."""
        tensors = load_file(folder / TABLE_FILE)
        rows, wordings, length, width = tensors["weight"].shape
        self.class_embedding = StateTable(rows - 1, wordings, length, width)
        self.class_embedding.load_state_dict(tensors)


def shape_of(config: dict[str, Any] | None) -> "StableUNet":
    """The network of a config.json on the meta device, where nothing is allocated; None: that of
    Stable Diffusion 1, which diffusers has by default.
    """
    given = {"cross_attention_dim": 768} if config is None else config
    with torch.device("meta"):
        return StableUNet.from_config(given)
