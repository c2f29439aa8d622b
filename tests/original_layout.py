"""The weights of a folder of Stable Diffusion by the names of the original code."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
    "self_attn": "attn",
    "layer_norm": "ln_",
    "fc1": "c_fc",
    "fc2": "c_proj",
}


def tensors(folder: Path, open_clip: bool = False) -> dict[str, Tensor]:
    """All weights of a folder of tiny_stable, with what training leaves beside them."""
    states = {}
    for part in ("unet", "vae", "text_encoder"):
        (file,) = (folder / part).glob("*.safetensors")
        states[part] = load_file(file)
    return {**renamed(states, 1, 2, open_clip), **beside(open_clip)}


def renamed(
    states: dict[str, dict[str, Tensor]], layers: int, levels: int, open_clip: bool
) -> dict[str, Tensor]:
    """layers: of a block of the unet. levels: of the vae."""
    unet = {f"model.diffusion_model.{unet_name(n, layers)}": w for n, w in states["unet"].items()}
    vae = {f"first_stage_model.{vae_name(n, levels)}": w for n, w in states["vae"].items()}
    for name, weight in vae.items():
        if "attn_1" in name and weight.ndim == 2:
            vae[name] = weight[:, :, None, None]
    texts = {n.removeprefix("text_model."): w for n, w in states["text_encoder"].items()}
    text = {f"cond_stage_model.transformer.text_model.{n}": w for n, w in texts.items()}
    return {**unet, **vae, **(as_open_clip(texts) if open_clip else text)}


def beside(open_clip: bool) -> dict[str, Tensor]:
    names = ["betas", "alphas_cumprod_prev", "sqrt_recipm1_alphas_cumprod", "model_ema.decay"]
    names += ["posterior_log_variance_clipped", "model_ema.diffusion_modelout2weight"]
    if open_clip:
        names += [f"cond_stage_model.model.{n}" for n in ("logit_scale", "text_projection")]
        names += ["cond_stage_model.model.transformer.resblocks.23.ln_1.weight"]
        return {name: torch.ones(3) for name in names}
    places = "cond_stage_model.transformer.text_model.embeddings.position_ids"
    return {**{name: torch.ones(3) for name in names}, places: torch.arange(16)[None]}


def replaced(name: str, by: dict[str, str]) -> str:
    for theirs, original in by.items():
        name = name.replace(theirs, original)
    return name


def unet_name(name: str, layers: int) -> str:
    """Where the first block upwards looks at no text."""
    for theirs, original in ENDS.items():
        if name.startswith(f"{theirs}."):
            return original + name.removeprefix(theirs)
    if name.startswith("mid_block."):
        _, part, number, inner = name.split(".", 3)
        place = f"middle_block.{1 if part == 'attentions' else 2 * int(number)}"
    else:
        kind, block, part, number, inner = name.split(".", 4)
        sampler = part in ("downsamplers", "upsamplers")
        layer = (layers + 1) * int(block) + (layers if sampler else int(number))
        if kind == "down_blocks":
            place = f"input_blocks.{layer + 1}.{int(part == 'attentions')}"
            inner = inner.replace("conv.", "op.") if sampler else inner
        else:
            inside = {"resnets": 0, "attentions": 1, "upsamplers": 1 + (int(block) > 0)}
            place = f"output_blocks.{layer}.{inside[part]}"
    return f"{place}.{replaced(inner, RESNET) if part == 'resnets' else inner}"


def vae_name(name: str, levels: int) -> str:
    name = re.sub(r"down_blocks\.(\d)", r"down.\1", name)
    name = re.sub(r"up_blocks\.(\d)", lambda m: f"up.{levels - 1 - int(m[1])}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{1 + int(m[1])}", name)
    names = {"mid_block.attentions.0": "mid.attn_1", "to_out.0": "proj_out", "to_": ""}
    names |= {"group_norm": "norm", "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut"}
    return replaced(name, {**names, "resnets": "block", "samplers.0": "sample"})


def as_open_clip(texts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of a layer are one matrix."""
    weights = {}
    for name, weight in texts.items():
        if ".q_proj." in name:
            three = [texts[name.replace(".q_proj.", f".{which}_proj.")] for which in "qkv"]
            weights[name.replace(".q_proj.", ".in_proj_")] = torch.cat(three)
        elif not re.search(r"\.[kv]_proj\.", name):
            weights[name] = weight
    return {f"cond_stage_model.model.{replaced(n, OPEN_CLIP)}": w for n, w in weights.items()}
