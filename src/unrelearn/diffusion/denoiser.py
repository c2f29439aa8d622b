"""The network eps_theta(x_t, t, c), with one embedding row per class and one null row: diffusers'
UNet2DModel, the UNet of the SalUn code line, or a text-conditional one whose rows are captions.

Row `num_classes` of the class embedding is the null label of classifier-free guidance. Weights are
written in diffusers' own format, so `UNet2DModel.from_pretrained(folder)` reads them with no line
of ours.
"""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrelearn.errors import UsageError

CLASS_EMBEDDING = "class_embedding.weight"  # of all networks: (num_classes + 1, width)
TABLE = "class_embedding."  # what all names of the table begin with

if TYPE_CHECKING:
    from diffusers import UNet2DModel

    from unrelearn.diffusion.prompts import PromptUNet
    from unrelearn.diffusion.salun_unet import SalunUNet
    from unrelearn.diffusion.stable import StableUNet

    Denoiser: TypeAlias = UNet2DModel | SalunUNet | PromptUNet | StableUNet
else:  # diffusers is imported where a network is made or read: a finished run needs none
    Denoiser = nn.Module


@dataclass(frozen=True, kw_only=True)
class Unet:
    """The shape of a network, as `model.unet` gives it.

    Args:
        block_out_channels: width of each resolution level; the image is halved between levels.
        attention_levels: levels (0 = full resolution) with self-attention; the middle block follows
            if any is given, and has it anyway in "salun".
        architecture: "unet2d", "salun" or "prompt".
        attention_head_dim: channels of one attention head; None: one head, the only choice in
            "salun".
    """

    block_out_channels: list[int]
    layers_per_block: int
    norm_num_groups: int
    attention_levels: list[int]
    dropout: float
    architecture: str = "unet2d"
    attention_head_dim: int | None = None


def build(
    *, image_size: int, channels: int, num_classes: int, prompt: dict | None = None, **unet: Any
) -> Denoiser:
    """A UNet for (B, channels, image_size, image_size) images and num_classes classes.

    Args:
        prompt: of a text-conditional one, see `prompts.build`.
        unet: the fields of `Unet`.

    Raises:
        UsageError: several heads in "salun".
    """
    wanted = Unet(**unet)
    shape = dict(
        sample_size=image_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(wanted.block_out_channels),
        layers_per_block=wanted.layers_per_block,
        norm_num_groups=wanted.norm_num_groups,
        dropout=wanted.dropout,
    )
    if prompt is not None:
        from unrelearn.diffusion import prompts

        return prompts.build(wanted, {**shape, "num_classes": num_classes}, prompt)
    shape["num_class_embeds"] = num_classes + 1
    if wanted.architecture == "salun":
        if wanted.attention_head_dim is not None:
            raise UsageError(
                f"model.unet.attention_head_dim={wanted.attention_head_dim}: the attention of"
                " model.unet.architecture=salun has one head. Type"
                " model.unet.attention_head_dim=null"
            )
        from unrelearn.diffusion.salun_unet import SalunUNet

        return SalunUNet(**shape, attention_levels=tuple(wanted.attention_levels))
    attended = [level in wanted.attention_levels for level in range(len(wanted.block_out_channels))]
    down = tuple("AttnDownBlock2D" if each else "DownBlock2D" for each in attended)
    from diffusers import UNet2DModel

    return UNet2DModel(
        **shape,
        down_block_types=down,
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        add_attention=bool(wanted.attention_levels),
        attention_head_dim=wanted.attention_head_dim,
    )


def predict(denoiser: Denoiser, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """The network's answer (B, C, H, W) at noisy images x_t, times t (B,) and labels (B,) in [0,
    num_classes].
    """
    return denoiser(x_t, t, class_labels=labels, return_dict=False)[0]


def guided(
    predict: Callable, x_t: Tensor, t: Tensor, labels: Tensor, null: int, scale: float
) -> Tensor:
    """e_0 + scale (e_c - e_0), of the answers without and with the condition (B, C, H, W), in one
    pass.

    predict: (x_t, t, labels) -> answer.
    """
    without = torch.full_like(labels, null)
    both = predict(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([labels, without])).float()
    conditional, unconditional = both.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def null_label(denoiser: Denoiser) -> int:
    return len(denoiser.class_embedding.weight) - 1


def embedding(denoiser: Denoiser, t: Tensor, labels: Tensor) -> Tensor:
    """What the residual blocks are told of times t (B,) and labels (B,): the input (B, E) of their
    projections.
    """
    from unrelearn.diffusion.salun_unet import SalunUNet

    if isinstance(denoiser, SalunUNet):
        return denoiser.embedding(t, labels)
    time = denoiser.time_embedding(denoiser.time_proj(t).to(denoiser.dtype))
    return F.silu(time + denoiser.class_embedding(labels))


def save(denoiser: Denoiser, folder: Path, schedule: dict) -> None:
    """Write config.json and safetensors weights, with the noise schedule beside them as a diffusers
    scheduler.
    """
    from diffusers import DDPMScheduler

    denoiser.save_pretrained(folder, safe_serialization=True)
    DDPMScheduler(**schedule).save_pretrained(folder)


def load(folder: Path, variant: str | None = None) -> Denoiser:
    """Read weights written by save() or by diffusers; float32, in evaluation mode.

    variant: of the file, e.g. "fp16" for diffusion_pytorch_model.fp16.safetensors.

    Raises:
        ValueError: another kind of network, or weights that are not exactly this network's.
    """
    from diffusers import UNet2DModel

    from unrelearn.diffusion.prompts import PromptUNet
    from unrelearn.diffusion.salun_unet import SalunUNet
    from unrelearn.diffusion.stable import StableUNet

    kinds = {one.__name__: one for one in (UNet2DModel, SalunUNet, PromptUNet, StableUNet)}
    name = json.loads((folder / "config.json").read_text())["_class_name"]
    if name not in kinds:
        raise ValueError(f"a {name}")
    network = whole(kinds[name], folder, variant)
    if isinstance(network, StableUNet):
        network.read_table(folder)
    return network


def whole(kind: Any, folder: Path, variant: str | None) -> Any:
    """A network of a class of diffusers from its folder; float32, in evaluation mode.

    Raises:
        ValueError: the weights there are not exactly this network's.
    """
    with quiet_diffusers():  # what it would only warn of is an error here
        network, missing = kind.from_pretrained(
            folder,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
            use_safetensors=True,
            variant=variant,
            output_loading_info=True,
        )
    if any(missing.values()):  # diffusers leaves what is missing at random values
        raise ValueError(", ".join(f"{what}: {names}" for what, names in missing.items() if names))
    return network.eval()


@contextlib.contextmanager
def quiet_diffusers() -> Iterator[None]:
    from diffusers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_checkpoint(
    path: Path, *, image_size: int, channels: int, num_classes: int
) -> dict[str, Denoiser]:
    """Networks trained elsewhere, by the name of their weights, "raw" or "ema".

    Args:
        path: a folder (see checkpoint.networks), or a file of the SalUn code line
            (salun_unet.load_lineage) with its 38.6 M network.

    Raises:
        UsageError: there is no such thing, or it is for other images or another number of classes.
    """
    from unrelearn.diffusion import checkpoint
    from unrelearn.diffusion.salun_unet import SalunUNet, load_lineage

    if not path.is_dir():
        # nothing is initialised: the weights of the file are put in its place
        with torch.device("meta"):
            network = SalunUNet(
                image_size,
                channels,
                channels,
                num_classes + 1,
                attention_levels=tuple(i for i in range(4) if image_size >> i == 16),
            )
        networks = {}
        for label, state in load_lineage(path, network).items():
            if label != "step":
                networks[label] = copy.deepcopy(network)
                networks[label].load_state_dict(state, assign=True)
                networks[label].float().eval()
        return networks
    networks = {}
    for label, folder in checkpoint.networks(path).items():
        checkpoint.network_config(folder)
        variant = checkpoint.variant(folder)
        try:
            networks[label] = load(folder, variant)
        except Exception as error:  # diffusers, safetensors and json each have their own
            raise checkpoint.Unreadable(folder, " ".join(str(error).split())[:200]) from None
    if problems := checkpoint.check_shape(
        path, image_size=image_size, channels=channels, num_classes=num_classes
    ):
        raise UsageError(problems)
    return networks


def reads_text(denoiser: nn.Module) -> bool:
    """Whether its table holds captions, which are public and no weights of its own."""
    return hasattr(denoiser.class_embedding, "ids")


def is_latent(denoiser: nn.Module) -> bool:
    """Whether it denoises the latents of an autoencoder: float16, and not bounded as pixels are."""
    return getattr(denoiser, "latent", False)


def empty_like(denoiser: Denoiser) -> Denoiser:
    """A network of the same shape without memory for its weights; captions, which lie in no
    configuration of Stable Diffusion, with it.
    """
    with torch.device("meta"):
        plain = type(denoiser).from_config(denoiser.config)
    if plain.class_embedding is None:
        plain.class_embedding = copy.deepcopy(denoiser.class_embedding)
    return plain


def reinitialise(denoiser: Denoiser, seed: int) -> None:
    """Give every weight its random initial value, a function of the seed alone; captions stay."""
    with torch.random.fork_rng(devices=[]), quiet_diffusers():
        torch.manual_seed(seed)
        fresh = type(denoiser).from_config(denoiser.config).state_dict()
    if reads_text(denoiser):
        fresh |= {k: v for k, v in denoiser.state_dict().items() if k.startswith(TABLE)}
    denoiser.load_state_dict(fresh)
