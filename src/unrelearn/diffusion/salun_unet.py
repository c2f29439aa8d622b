"""The conditional UNet of the SalUn code line, and its checkpoints.

Ho et al. 2020 (arXiv 2006.11239) as rewritten for PyTorch with DDIM (Song et al. 2021, arXiv
2010.02502), made class-conditional by Selective Amnesia (Heng & Soh 2023, arXiv 2305.10120), whose
network SalUn (Fan et al. 2024, arXiv 2310.12508) and others use unchanged: 38,632,323 parameters
with the defaults below. Written here from its description; submodules keep the names of that code's
state dicts, so a checkpoint needs no table of names.

Where we differ: the learned null vector is the last row of the class table, as in denoiser.py, and
which labels are dropped is decided by the caller; attention uses PyTorch's fused kernels.
"""

import pickle
import re
import zipfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor, nn

from unrelearn.errors import UsageError


def group_norm(width: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, width, eps=1e-6)


class Embedding(nn.Module):
    """(B, width) -> (B, 4 width)."""

    def __init__(self, width: int):
        super().__init__()
        self.dense = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.dense[1](F.silu(self.dense[0](x)))


class ResidualBlock(nn.Module):
    """(B, width, H, W) and an embedding (B, E), already through its swish -> (B, width_out, H,
    W).
    """

    def __init__(self, width: int, width_out: int, embedding: int, groups: int, dropout: float):
        super().__init__()
        self.norm1 = group_norm(width, groups)
        self.conv1 = nn.Conv2d(width, width_out, 3, padding=1)
        self.temb_cemb_proj = nn.Linear(embedding, width_out)
        self.norm2 = group_norm(width_out, groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)
        self.nin_shortcut = nn.Identity() if width == width_out else nn.Conv2d(width, width_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.temb_cemb_proj(embedding)[:, :, None, None]
        return self.nin_shortcut(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class Attention(nn.Module):
    """Self-attention with one head over the pixels of (B, C, H, W)."""

    def __init__(self, width: int, groups: int):
        super().__init__()
        self.norm = group_norm(width, groups)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        # (B, 1, H W, C); the fused kernels want a pixel's channels side by side, which costs no
        # copy in channels_last
        q, k, v = (
            layer(h).flatten(2).mT[:, None].contiguous() for layer in (self.q, self.k, self.v)
        )
        return x + self.proj_out(F.scaled_dot_product_attention(q, k, v)[:, 0].mT.reshape(x.shape))


class Downsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class SalunUNet(ModelMixin, ConfigMixin):
    """eps_theta(x_t, t, c), called like diffusers' UNet2DModel.

    Args:
        sample_size: height and width of the images; each level halves them.
        num_class_embeds: classes + 1; the last row is the null label.
        block_out_channels: width of each level; the first is also the width of the embeddings'
            input.
        layers_per_block: residual blocks of a level on the way down; there is one more on the way
            up.
        attention_levels: levels (0 = full resolution) with attention after each block; the middle
            always has one.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        in_channels: int = 3,
        out_channels: int = 3,
        num_class_embeds: int = 11,
        block_out_channels: tuple[int, ...] = (128, 256, 256, 256),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        attention_levels: tuple[int, ...] = (1,),
        dropout: float = 0.1,
    ):
        super().__init__()
        widths, groups = list(block_out_channels), norm_num_groups
        base, bottom, last = widths[0], widths[-1], len(widths) - 1
        before = [base, *widths]  # the width that comes into each level on the way down
        block = partial(ResidualBlock, embedding=8 * base, groups=groups, dropout=dropout)

        def level(i: int, widths_in: list[int]) -> nn.ModuleDict:
            width, attends = widths[i], i in attention_levels
            blocks = [block(width_in, width) for width_in in widths_in]
            attention = [Attention(width, groups) if attends else nn.Identity() for _ in blocks]
            return nn.ModuleDict({"block": nn.ModuleList(blocks), "attn": nn.ModuleList(attention)})

        self.temb = Embedding(base)
        self.class_embedding = nn.Embedding(num_class_embeds, base)
        self.cemb = Embedding(base)
        self.conv_in = nn.Conv2d(in_channels, base, 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(widths):
            down = level(i, [before[i]] + [width] * (layers_per_block - 1))
            below = widths[min(i + 1, last)]
            skips = [width] * layers_per_block + [before[i]]
            from_below = [below] + [width] * layers_per_block
            up = level(i, [h + skip for h, skip in zip(from_below, skips, strict=True)])
            if i < last:
                down["downsample"] = Downsample(width)
            if i > 0:
                up["upsample"] = Upsample(width)
            self.down.append(down)
            self.up.append(up)
        self.mid = nn.ModuleDict(
            {
                "block_1": block(bottom, bottom),
                "attn_1": Attention(bottom, groups),
                "block_2": block(bottom, bottom),
            }
        )
        self.norm_out = group_norm(base, groups)
        self.conv_out = nn.Conv2d(base, out_channels, 3, padding=1)

    def embedding(self, t: Tensor, class_labels: Tensor) -> Tensor:
        """(B, 8 x base) of times t (B,) and labels (B,), through its swish."""
        # "flip" and "shift" of diffusers: [sin, cos] with frequencies 10000^(-i / (half - 1)), as
        # in DDPM's code
        width = self.class_embedding.embedding_dim
        time = get_timestep_embedding(t, width, flip_sin_to_cos=False, downscale_freq_shift=1)
        parts = [self.temb(time.to(self.dtype)), self.cemb(self.class_embedding(class_labels))]
        return F.silu(torch.cat(parts, dim=1))

    def forward(
        self, x_t: Tensor, t: Tensor, class_labels: Tensor, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        """The predicted noise, like x_t (B, C, H, W), at times t, a number or (B,), for labels (B,)
        in [0, K].
        """
        t = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        embedding = self.embedding(t, class_labels)
        h = self.conv_in(x_t)
        skips = [h]
        for level in self.down:
            for block, attention in zip(level["block"], level["attn"], strict=True):
                h = attention(block(h, embedding))
                skips.append(h)
            if "downsample" in level:
                h = level["downsample"](h)
                skips.append(h)
        h = self.mid["attn_1"](self.mid["block_1"](h, embedding))
        h = self.mid["block_2"](h, embedding)
        for level in reversed(self.up):
            for block, attention in zip(level["block"], level["attn"], strict=True):
                h = attention(block(torch.cat([h, skips.pop()], dim=1), embedding))
            if "upsample" in level:
                h = level["upsample"](h)
        h = self.conv_out(F.silu(self.norm_out(h)))
        return UNet2DOutput(sample=h) if return_dict else (h,)


# ------------------------------------------------------------------------- checkpoints of that code


def to_lineage(network: SalunUNet) -> dict[str, Tensor]:
    """The weights as that code names them: the null vector apart from the table of the K
    classes.
    """
    state = network.state_dict()
    table = state.pop("class_embedding.weight")
    return {
        **state,
        "classes_emb.weight": table[:-1].clone(),
        "null_classes_emb": table[-1].clone(),
    }


def load_lineage(path: str | Path, network: SalunUNet | None = None) -> dict:
    """Read a checkpoint of the Selective Amnesia / SalUn code.

    Args:
        path: torch.save of [model, optimizer, step, ema], of ddim's [model, optimizer, epoch, step,
            ema], both with or without ema, of one state dict, or of {"state_dict": ...}; names may
            begin with "module." (DataParallel).
        network: what the weights must fit; None: the published 38.6 M network with the file's
            number of classes.

    Returns:
        {"raw": state dict for SalunUNet, "ema": the same, if the file has it, "step": as written
        there, if it is}. The step is the index, from 0, of the last one taken.

    Raises:
        UsageError: one line. A file that holds anything but tensors and plain values is not opened:
            a pickle is a program.
    """
    content = _read(path)
    if isinstance(content, list | tuple):
        states = {"raw": content[0] if content else None}
        if len(content) > 2 and isinstance(content[-1], dict):
            states["ema"] = content[-1]
        steps = [item for item in content if isinstance(item, int)]
    else:
        states = {
            "raw": content.get("state_dict", content) if isinstance(content, dict) else content
        }
        steps = []
    converted = {
        label: _from_lineage(state, label, path, network) for label, state in states.items()
    }
    return {**converted, "step": steps[-1]} if steps else converted


def _wrong(path: str | Path, what: str) -> UsageError:
    return UsageError(
        f"model.checkpoint={path}: {what}. Type model.checkpoint=FILE with a ckpt.pth of the SalUn"
        " code, or model.checkpoint=null to pretrain here"
    )


def _read(path: str | Path) -> object:
    try:
        # the zip format of torch 1.6 and later can be mapped, so that the optimiser's state is
        # never read
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except OSError as error:
        raise _wrong(path, f"can not be read ({error.strerror or error})") from None
    except Exception as error:  # what a damaged file raises depends on the byte that is damaged
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and foreign:
            raise _wrong(
                path,
                f"holds {foreign[1]}, which is neither a tensor nor a plain value, and is not"
                " opened, as unpickling it could run any program",
            ) from None
        raise _wrong(path, "is not a file written by torch.save, or is damaged") from None


def _from_lineage(
    state: object, label: str, path: str | Path, network: SalunUNet | None
) -> dict[str, Tensor]:
    """One state dict of theirs in our names, checked against what the network has."""
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise _wrong(path, f"has no state dict of tensors where the {label} weights should be")
    state = {name.removeprefix("module."): value for name, value in state.items()}
    if network is None:
        table = state.get("classes_emb.weight", torch.empty(10))
        classes = table.shape[0] if table.ndim else 0
        with torch.device("meta"):
            network = SalunUNet(num_class_embeds=classes + 1)
    expected = to_lineage(network)
    problems = [f"{name} is missing" for name in expected.keys() - state.keys()]
    problems += [f"{name} is unexpected" for name in state.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(value.shape)} and not {tuple(expected[name].shape)}"
        for name, value in state.items()
        if name in expected and value.shape != expected[name].shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise _wrong(
            path,
            f"the {label} weights do not fit this network: {', '.join(sorted(problems)[:3])}{more}",
        )
    table = torch.cat([state.pop("classes_emb.weight"), state.pop("null_classes_emb")[None]])
    return {**state, "class_embedding.weight": table}
