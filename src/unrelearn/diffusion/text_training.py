"""Training the text encoder once, against images, before any denoiser is: captions and their images
are to agree (CLIP: Radford et al. 2021, arXiv 2103.00020, at our size).

It is frozen and public afterwards, as CLIP is to Stable Diffusion: whoever retrains a denoiser
without a word keeps the encoder that knows it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrelearn.data import ImageSet, to_model_range
from unrelearn.diffusion.prompts import PromptTable
from unrelearn.randomness import generator_for

SCALE = 10.0  # of cosines in the loss, an inverse temperature


class ImageTower(nn.Sequential):
    """(B, C, S, S) in [-1, 1] -> (B, width)."""

    def __init__(self, channels: int, width: int):
        super().__init__(
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(1024, width),
        )


def tokens_of(table: PromptTable, data: ImageSet) -> Tensor:
    """(N, L): of each image its caption's."""
    wordings = torch.zeros_like(data.labels) if data.wordings is None else data.wordings
    return table.ids[data.labels, wordings]


def meaning(table: PromptTable, ids: Tensor, end: int) -> Tensor:
    """(N, D): the state at the end of each caption, of norm 1."""
    states = table.encoder(ids)
    return F.normalize(states[torch.arange(len(ids)), (ids == end).int().argmax(1)], dim=-1)


@dataclass(frozen=True)
class EncoderRecipe:
    """How an encoder is trained: settings of model.text."""

    max_steps: int
    batch_size: int
    learning_rate: float
    seed: int


def train_encoder(
    table: PromptTable, data: ImageSet, end: int, recipe: EncoderRecipe
) -> list[float]:
    """Change the table's encoder in place, and make its states anew; return the losses.

    In a batch of pairs each caption is to tell its images among all, and each image its caption;
    several images may share one. end: the token at which a caption's state is read.
    """
    device = table.weight.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        tower = ImageTower(data.images.shape[1], table.weight.shape[-1]).to(device)
    table.encoder.train().requires_grad_(True)
    weights = [*table.encoder.parameters(), *tower.parameters()]
    optimizer = torch.optim.AdamW(weights, recipe.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, recipe.max_steps
    )
    tokens, losses = tokens_of(table, data), []
    for step in range(recipe.max_steps):
        g = generator_for(recipe.seed, "text", step)
        index = torch.randint(len(data), (recipe.batch_size,), generator=g).to(data.labels.device)
        ids = tokens[index].to(device)
        seen = F.normalize(tower(to_model_range(data.images[index].to(device))), dim=-1)
        logits = SCALE * seen @ meaning(table, ids, end).T
        same = (ids[:, None] == ids[None]).all(-1).float()
        wanted = same / same.sum(1, keepdim=True)  # symmetric: of images and of captions
        loss = (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    table.requires_grad_(False)
    table.refresh()
    return losses
