"""The UNet of Stable Diffusion, called with labels: cross-attention reads the states of captions
that its own text encoder made once.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from unrelearn.artifact import write_json
from unrelearn.diffusion.checkpoint import STEM
from unrelearn.diffusion.denoiser import TABLE
from unrelearn.diffusion.pipelines import TABLE_FILE
from unrelearn.diffusion.prompts import CaptionedUNet, StateTable

FILES = [f"{STEM}-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]


def _file_of(name: str) -> int:
    """0: of keys and values of cross-attention, 1: of its other weights, 2: of all else."""
    return 2 if ".attn2." not in name else int(not name.endswith(("to_k.weight", "to_v.weight")))


class StableUNet(CaptionedUNet):
    """UNet2DConditionModel of latents (B, 4, h, w), with a table of captions (StateTable) beside
    its weights: what it writes is a folder of plain diffusers, and the table in a file of its own.
    """

    latent = True
    class_embedding: Any  # a StateTable, once captions are read

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """As diffusers does, which reads it, in files that are the original's where a method moved
        nothing of them: those are stored once (artifact.Store).
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.save_config(folder)
        own = {k: v for k, v in self.state_dict().items() if not k.startswith(TABLE)}
        weights = {name: value.contiguous() for name, value in own.items()}
        places = {name: FILES[_file_of(name)] for name in weights}
        for file in FILES:
            part = {name: value for name, value in weights.items() if places[name] == file}
            save_file(part, folder / file, {"format": "pt"})
        size = sum(value.nbytes for value in weights.values())
        index = {"metadata": {"total_size": size}, "weight_map": places}
        write_json(folder / f"{STEM}.safetensors.index.json", index)
        save_file(self.class_embedding.state_dict(), folder / TABLE_FILE)

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
