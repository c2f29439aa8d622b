"""A text-conditional denoiser that is called with labels: what a number stands for is a row of a
table, the states that a frozen text encoder makes of a caption.

Label c + (K + 1) w is class c in wording w; wording 0 is the canonical prompt, so that a class
number, the null label K and all that is written in terms of them mean what they mean in a
class-conditional model. Parameters are named as in diffusers' UNet2DConditionModel, which reads the
written folder too and leaves the table out.
"""

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class TextEncoder(nn.Module):
    """A causal transformer over tokens: what comes after a word knows of it, what stands before
    does not, as in CLIP's (Radford et al. 2021, arXiv 2103.00020).
    """

    def __init__(self, vocabulary: int, length: int, width: int, layers: int, heads: int):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(0.02 * torch.randn(length, width))
        shape: dict[str, Any] = dict(dropout=0.0, activation="gelu", batch_first=True)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 2 * width, norm_first=True, **shape)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """States (N, L, D) of tokens (N, L)."""
        x = self.tokens(ids) + self.places
        later = torch.ones(2 * [ids.shape[1]], dtype=torch.bool, device=ids.device).triu(1)
        for layer in self.layers:
            x = layer(x, src_mask=later)
        return self.norm(x)


class StateTable(nn.Module):
    """weight (K + 1, T, L, D): the states of T captions of each class; row K is the empty prompt.
    ids (K + 1, T, L): their tokens.
    """

    def __init__(self, classes: int, wordings: int, length: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes + 1, wordings, length, width))
        self.register_buffer("ids", torch.zeros(classes + 1, wordings, length, dtype=torch.long))

    def forward(self, labels: Tensor) -> Tensor:
        """(B,) -> (B, L, D)."""
        return self.weight[labels % len(self.weight), labels // len(self.weight)]


class PromptTable(StateTable):
    """With the encoder that makes the states of the tokens.

    live: make the states anew in every call, for gradients to reach tokens.
    """

    def __init__(self, classes: int, wordings: int, length: int, encoder: TextEncoder):
        super().__init__(classes, wordings, length, encoder.tokens.embedding_dim)
        self.encoder, self.live = encoder, False

    def requires_grad_(self, requires_grad: bool = True) -> "PromptTable":
        """Of the states alone: the encoder is public and stays, whoever trains."""
        self.encoder.requires_grad_(False)
        self.weight.requires_grad_(requires_grad)
        return self

    def forward(self, labels: Tensor) -> Tensor:
        if not self.live:
            return super().forward(labels)
        return self.encoder(self.ids[labels % len(self.weight), labels // len(self.weight)])

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the states of all captions anew, as the encoder is now."""
        training = self.encoder.training
        self.encoder.eval()
        for row, ids in zip(self.weight, self.ids, strict=True):
            row.copy_(self.encoder(ids))
        self.encoder.train(training)


class CaptionedUNet(UNet2DConditionModel):
    """UNet2DConditionModel, called like UNet2DModel: `class_embedding` says what a label means."""

    def get_class_embed(self, sample: Tensor, class_labels: Tensor | None) -> None:
        """Nothing: the table's states are read by cross-attention, not added to the time."""
        return None

    def forward(
        self, sample: Tensor, timestep: Any, class_labels: Tensor, return_dict: bool = True
    ) -> Any:
        states = self.class_embedding(class_labels)
        return super().forward(sample, timestep, states, return_dict=return_dict)

    def read(self, x_t: Tensor, t: Tensor, states: Tensor) -> Tensor:
        """The answer (B, C, H, W) to states (B, L, D) that no row of the table holds."""
        return super().forward(x_t, t, states, return_dict=False)[0]


class PromptUNet(CaptionedUNet):
    """A denoiser whose captions an encoder of its own reads.

    vocabulary: the words that tokens stand for. Others: of UNet2DConditionModel, PromptTable and
    TextEncoder.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 16,
        in_channels: int = 3,
        out_channels: int = 3,
        block_out_channels: tuple[int, ...] = (32, 64),
        down_block_types: tuple[str, ...] = ("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types: tuple[str, ...] = ("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block: int = 1,
        norm_num_groups: int = 8,
        dropout: float = 0.0,
        attention_head_dim: tuple[int, ...] = (4, 4),
        cross_attention_dim: int = 64,
        num_classes: int = 10,
        wordings: int = 1,
        length: int = 12,
        text_layers: int = 2,
        text_heads: int = 4,
        vocabulary: tuple[str, ...] = (),
    ):
        super().__init__(
            sample_size=sample_size,
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=block_out_channels,
            down_block_types=down_block_types,
            up_block_types=up_block_types,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            dropout=dropout,
            attention_head_dim=attention_head_dim,
            cross_attention_dim=cross_attention_dim,
        )
        shape = (len(vocabulary), length, cross_attention_dim, text_layers, text_heads)
        encoder = TextEncoder(*shape)
        self.class_embedding = PromptTable(num_classes, wordings, length, encoder)


def build(unet: Any, shape: dict[str, Any], prompt: dict[str, Any]) -> PromptUNet:
    """unet: the record `Unet`; its attention_head_dim is the channels of a head, where diffusers'
    is the number of heads.

    prompt: wordings, length, width, layers, heads, vocabulary.
    """
    widths = shape["block_out_channels"]
    attended = [level in unet.attention_levels for level in range(len(widths))]
    down = tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attended)
    return PromptUNet(
        **shape,
        down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        attention_head_dim=tuple(max(1, w // (unet.attention_head_dim or w)) for w in widths),
        cross_attention_dim=prompt["width"],
        wordings=prompt["wordings"],
        length=prompt["length"],
        text_layers=prompt["layers"],
        text_heads=prompt["heads"],
        vocabulary=tuple(prompt["vocabulary"]),
    )
