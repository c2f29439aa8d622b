"""Captions as the text encoder of Stable Diffusion reads them: CLIP's tokens, padded to its length,
and the states of all of them (Radford et al. 2021, arXiv 2103.00020). Padding is attended to, as in
StableDiffusionPipeline.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unrelearn.diffusion.captions import Captions

AT_ONCE = 32  # captions
# of files that older versions wrote: a buffer of place numbers, and no weight
NO_WEIGHTS = ("position_ids",)


@dataclass(frozen=True)
class ClipCaptions(Captions):
    """Captions of a tokenizer from elsewhere.

    root: the folder of the pipeline, with tokenizer/ and text_encoder/.
    """

    root: Path

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(self.root / "tokenizer", local_files_only=True)

    @cached_property
    def length(self) -> int:
        """Tokens that the encoder reads, with start and end."""
        return min(self.encoder_length, self.tokenizer.model_max_length)

    @property
    def may_be_too_long(self) -> bool:
        """Without asking the tokenizer: no caption has more tokens than bytes, with two more."""
        return any(
            len(text.encode()) + 2 > self.encoder_length for of in self.captions for text in of
        )

    @cached_property
    def encoder_length(self) -> int:
        config = json.loads((self.root / "text_encoder" / "config.json").read_text())
        return int(config.get("max_position_embeddings", 77))

    @property
    def longest(self) -> tuple[int, str]:
        texts = [text for of in self.captions for text in of]
        return max((len(self.tokenizer(text).input_ids), text) for text in texts)

    def tokens(self, words: list[str]) -> list[int]:
        return list(self.tokenizer(" ".join(words), add_special_tokens=False).input_ids)

    def encoded(self, text: str, length: int) -> Tensor:
        padded = self.tokenizer(text, padding="max_length", max_length=length)
        return torch.tensor(padded.input_ids)


def load_encoder(folder: Path, variant: str | None) -> Any:
    """A CLIPTextModel; float32, in evaluation mode.

    Raises:
        ValueError: the weights there are not exactly this network's.
    """
    from transformers import CLIPTextModel
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        encoder, known = CLIPTextModel.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            dtype=torch.float32,
            output_loading_info=True,
        )
    finally:
        logging.set_verbosity(level)
    wrong = {
        what: [name for name in known.get(what, ()) if not str(name).endswith(NO_WEIGHTS)]
        for what in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        raise ValueError(", ".join(f"{what}: {names}" for what, names in wrong.items() if names))
    return encoder.eval()


@torch.inference_mode()
def states(encoder: Any, ids: Tensor) -> Tensor:
    """(N, L) tokens -> (N, L, D) float32 on the CPU: the last layer's, after its norm."""
    parts = [encoder(part.to(encoder.device))[0].float().cpu() for part in ids.split(AT_ONCE)]
    return torch.cat(parts)
