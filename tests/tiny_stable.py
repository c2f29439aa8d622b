"""Stable Diffusion of some random weights, as diffusers and transformers write it, and photographs
in the layout of Imagenette.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SCALING = 0.404  # of latents: not the one that everybody knows
LENGTH = 16  # tokens
# each a token; others: letters
WORDS = ["an", "image", "of", "a", "photo", "church", "tench", "english", "springer"]
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="epsilon",
)
FOLDERS = {"n01440764": "tench", "n02102040": "English springer", "n03028079": "church"}
START, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """In the files that Stable Diffusion 1.5 has: vocab.json and merges.txt."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = [*letters, *(f"{c}</w>" for c in letters)]
    merges: list[str] = []
    for word in WORDS:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            pair = f"{parts[0]} {parts[1]}"
            if pair not in merges:
                merges.append(pair)
                vocabulary.append(pair.replace(" ", ""))
            parts[:2] = [parts[0] + parts[1]]
    vocabulary += [START, END]
    folder.mkdir(parents=True)
    known = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    (folder / "vocab.json").write_text(json.dumps(known))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LENGTH, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return CLIPTokenizer.from_pretrained(folder)


def parts(tokenizer: CLIPTokenizer, **schedule: Any) -> dict[str, Any]:
    torch.manual_seed(3)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=SCALING,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    known = {**SCHEDULE, "steps_offset": 1, "set_alpha_to_one": False, "skip_prk_steps": True}
    scheduler = PNDMScheduler(**{**known, **schedule})
    return {
        "unet": unet,
        "vae": vae,
        "text_encoder": CLIPTextModel(text),
        "tokenizer": tokenizer,
        "scheduler": scheduler,
    }


def write(folder: Path, *, variant: str | None = None, **schedule: Any) -> Path:
    """A whole folder, written by plain diffusers."""
    tokenizer = write_tokenizer(folder.parent / f"{folder.name}-tokens")
    pipeline = StableDiffusionPipeline(
        **parts(tokenizer, **schedule),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, variant=variant)
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    for file in (folder.parent / f"{folder.name}-tokens").iterdir():
        file.rename(folder / "tokenizer" / file.name)
    return folder


def photographs(root: Path, train: int = 6, test: int = 2) -> Path:
    """Of three classes, 20x16 pixels, each class of one colour with noise."""
    for number, name in enumerate(FOLDERS):
        for part, count in (("train", train), ("val", test)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                noise = np.random.RandomState(10 * number + k + 100 * (part == "val"))
                pixels = noise.randint(0, 60, (16, 20, 3))
                pixels[..., number] += 160
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}_{k}.JPEG")
    return root


def overrides(pipeline: Path, root: Path) -> list[str]:
    """The command at tiny size."""
    return [
        "model=stable_diffusion",
        f"model.checkpoint={pipeline}",
        "dataset=imagenette",
        f"dataset.root={root}",
        "dataset.image_size=16",
        "forget=church",
        "unlearning.max_steps=2",
        "unlearning.batch_size=4",
        "relearning.batch_size=4",
        "relearning.budgets=[0,2]",
        "oracle.max_steps=2",
        "oracle.batch_size=8",
        "oracle.main.width=8",
        "oracle.held_out.width=8",
        "precision=32-true",
        "sampler.guidance_scales=[1.0,2.0]",
        "sampler.retain_guidance_scales=[1.0]",
        "sampler.num_images=4",
        "sampler.num_inference_steps=2",
        "sampler.images_per_retained_class=2",
        "sampler.second=null",
        "eval=[forget_accuracy,retain_accuracy]",
    ]
