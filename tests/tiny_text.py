"""A text-conditional denoiser of 50 k weights on the drawn shapes, as tiny.py has a
class-conditional one on digits.
"""

from functools import cache
from typing import Any

import torch
from tiny import SCHEDULE

from unrelearn.config import forget_classes
from unrelearn.data import ImageData
from unrelearn.data.shapes import Shapes
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.captions import captions_of
from unrelearn.diffusion.prompting import Prompting, PromptingTask
from unrelearn.diffusion.prompts import PromptUNet
from unrelearn.method import Method

UNET = dict(
    architecture="prompt",
    block_out_channels=[8, 16],
    layers_per_block=1,
    norm_num_groups=4,
    attention_levels=[1],
    attention_head_dim=8,
    dropout=0.0,
)
TEXT = dict(length=12, width=16, layers=1, heads=2)
SMALL = [
    "model=tiny_text",
    "model.unet.block_out_channels=[8,16]",
    "model.unet.norm_num_groups=4",
    "model.unet.attention_head_dim=8",
    "model.text.width=16",
    "model.text.layers=1",
    "model.text.heads=2",
]
SHAPES = Shapes(8)
CAPTIONS = captions_of(SHAPES)


@cache
def data() -> ImageData:
    return SHAPES.load()


def network(seed: int = 0) -> PromptUNet:
    """Of random weights, its encoder too, which is the same for every seed."""
    torch.manual_seed(1)
    words: dict[str, Any] = dict(wordings=CAPTIONS.wordings, vocabulary=CAPTIONS.vocabulary)
    shape = dict(image_size=16, channels=3, num_classes=96)
    net = denoiser.build(**shape, prompt=TEXT | words, **UNET)
    net.class_embedding.ids.copy_(CAPTIONS.ids(TEXT["length"]))
    net.class_embedding.refresh()
    denoiser.reinitialise(net, seed)
    return net.eval()


def new_task(word: str = "red", **changes: Any) -> PromptingTask:
    forget = forget_classes(word, SHAPES)
    train = data().train
    held_out = torch.isin(train.wordings, torch.tensor(CAPTIONS.paraphrases(forget)))
    given = dict(
        network=network(),
        schedule=SCHEDULE,
        forget=train.where(~held_out).of_classes(forget),
        retain=train.of_classes(forget, keep=False),
        forget_classes=forget,
        class_names=SHAPES.class_names,
        counterparts={c: SHAPES.counterpart(c, forget) for c in forget},
        captions=CAPTIONS,
        seed=0,
        original=lambda: network(5),
    )
    return PromptingTask(**{**given, **changes})


def prompting(method: Method, task: PromptingTask | None = None) -> Prompting:
    return Prompting(method, task or new_task())
