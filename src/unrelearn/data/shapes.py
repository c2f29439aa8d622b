"""Drawn shapes: 4 shapes x 4 colours x 3 textures x 2 sizes at 16x16 pixels, with captions. Nothing
is read or downloaded; every attribute of every image is known exactly.

The classes are the 96 combinations, so that a word can be forgotten like a class: forget=red (a
feature), forget=circle (an object), forget="red circle" (a combination). A function of the seed
alone: position, size, colour, grey of the ground and noise vary.
"""

from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from unrelearn.data import ImageData, ImageSet
from unrelearn.data.shapes_words import ATTRIBUTES, WORDINGS, WORDS, Words
from unrelearn.ranges import Count, Seed

SIDE, SAMPLES = 16, 2
TEST_IMAGES = 16  # of each combination
# of each word, in the order of WORDS: the radius in pixels, and the colour in 0..255
RADII = ((4.2, 3.4), (6.2, 7.0))
COLOURS = (
    ((225, 30, 45), (135, 10, 45), (245, 85, 20)),
    ((40, 180, 60), (5, 115, 85), (150, 225, 40)),
    ((50, 80, 225), (75, 165, 245), (25, 25, 120)),
    ((240, 220, 50), (190, 145, 10), (250, 180, 70)),
)
DARK = 0.42  # how bright the dark parts of a texture are


Where = Callable[..., np.ndarray]


def arms(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Two bars that cross upright."""
    near, far = np.minimum(abs(u), abs(v)), np.maximum(abs(u), abs(v))
    return (near <= 0.3) & (far <= 1)


# of each word, where it is: u and v in radii, v pointing down
OUTLINES: list[tuple[Where, Where]] = [
    (lambda u, v: u**2 + v**2 <= 0.9, lambda u, v: (u / 0.98) ** 2 + (v / 0.6) ** 2 <= 1),
    (
        lambda u, v: np.maximum(abs(u), abs(v)) <= 0.86,
        lambda u, v: (abs(u) <= 0.55) & (abs(v) <= 1),
    ),
    (
        lambda u, v: (v <= 0.75) & (2 * abs(u) - 0.95 <= v),
        lambda u, v: (u >= -0.75) & (2 * abs(v) - 0.95 <= -u),
    ),
    (lambda u, v: arms((u + v) / 2**0.5, (u - v) / 2**0.5), arms),
]


def alternating(*places: np.ndarray) -> np.ndarray:
    """1 and DARK in turn along each of these directions."""
    return DARK + (1 - DARK) * (sum(np.floor(place) for place in places) % 2)


# of each word, how bright it is: x and y in pixels, v in radii
TEXTURES: list[tuple[Where, Where]] = [
    (lambda x, y, v: np.ones_like(x), lambda x, y, v: 1 - 0.45 * ((1 + v) / 2).clip(0, 1)),
    (lambda x, y, v: alternating(x / 1.5), lambda x, y, v: alternating(y / 1.5)),
    (
        lambda x, y, v: alternating(x / 2, y / 2),
        lambda x, y, v: alternating((x + y) / 2.8, (x - y) / 2.8),
    ),
]


class Shapes:
    """Training and test images uint8 (N, 3, 16, 16) in [0, 255], as many of each combination, in
    each of its wordings.

    Args:
        images_per_combination: training images.
        seed: of all that varies.
    """

    image_size = SIDE
    channels = 3
    horizontal_flip = False  # the renderer draws as many as are wanted

    def __init__(
        self,
        images_per_combination: Annotated[Count, Field(ge=len(WORDINGS))] = 120,
        seed: Seed = 0,
    ):
        self.images_per_combination, self.seed = images_per_combination, seed
        self.words = Words()
        self.class_names, self.groups = self.words.names, self.words.groups
        self.captions = [
            [self.words.caption(label, wording) for wording in range(len(WORDINGS))]
            for label in range(len(self.class_names))
        ]

    @property
    def values(self) -> list[list[int]]:
        """Of each class the number of each attribute's value, in the order of WORDS."""
        return [list(values) for values in self.words.values]

    @property
    def attributes(self) -> dict[str, list[str]]:
        """Attribute -> its word in each class."""
        columns = zip(*self.words.values, strict=True)
        return {
            name: [WORDS[name][value][0] for value in column]
            for name, column in zip(ATTRIBUTES, columns, strict=True)
        }

    def counterpart(self, label: int, forgotten: list[int]) -> int:
        """The retained class under which DiMUM's alternative images for `label` are taken."""
        return self.words.counterpart(label, forgotten)

    def check(self) -> list[str]:
        if self.images_per_combination >= len(WORDINGS):
            return []
        return [
            f"dataset.images_per_combination={self.images_per_combination}: there are"
            f" {len(WORDINGS)} captions of each combination, and each needs an image; type"
            f" dataset.images_per_combination={10 * len(WORDINGS)}"
        ]

    def fingerprint(self) -> str:
        return f"shapes-{self.images_per_combination}-{self.seed}"

    def load(self) -> ImageData:
        rng = np.random.RandomState(self.seed)  # its stream never changes (NEP 19)
        train, test = (self._part(rng, n) for n in (self.images_per_combination, TEST_IMAGES))
        return ImageData(train, test, self.class_names)

    def _part(self, rng: np.random.RandomState, each: int) -> ImageSet:
        """So many images of each combination, its wordings in turn; shuffled."""
        labels: np.ndarray = np.repeat(np.arange(len(self.class_names)), each)
        wordings = np.tile(np.arange(each) % len(WORDINGS), len(self.class_names))
        order = rng.permutation(len(labels))
        labels, wordings = labels[order], wordings[order]
        which = np.array([[how.which(name) for name in ATTRIBUTES] for how in WORDINGS])
        images = draw(np.array(self.words.values)[labels], which[wordings], rng)
        return ImageSet(*map(torch.from_numpy, (images, labels, wordings)))

    def judge(self, images: Tensor) -> dict[str, Tensor]:
        """Attribute -> the number of its value (N,), in the order of WORDS, computed from uint8
        images (N, 3, 16, 16), -1: none can be told. Colour by hue and size by extent: no
        classifier, so nothing that could be fooled.
        """
        colour, size = judged(images)
        return {"colour": colour, "size": size}


def draw(values: np.ndarray, words: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """Images uint8 (N, 3, 16, 16).

    values, words: (N, 4) int, of each attribute in the order of WORDS its value, and which of the
        value's words is drawn.
    """
    n = len(values)
    centre = rng.uniform(-1, 1, (2, n))
    radius = np.array(RADII)[values[:, 0], words[:, 0]] * rng.uniform(0.95, 1.05, n)
    shares: np.ndarray = np.empty((n, SIDE, SIDE), np.float32)
    light: np.ndarray = np.empty_like(shares)
    looks, group = np.unique(
        np.hstack([values, words])[:, [2, 3, 6, 7]], axis=0, return_inverse=True
    )
    for number, (texture, shape, *which) in enumerate(looks):
        mine = np.flatnonzero(group.ravel() == number)
        x, y, u, v = grid(centre[:, mine], radius[mine])
        inside = OUTLINES[shape][which[1]](u, v)
        shares[mine] = pixels(inside)
        light[mine] = pixels(inside * TEXTURES[texture][which[0]](x, y, v))
    colour = np.array(COLOURS)[values[:, 1], words[:, 1]] + rng.uniform(-14, 14, (n, 3))
    ground = rng.uniform(15, 55, (n, 1, 1, 1))
    image = light[:, None] * colour[..., None, None] + (1 - shares[:, None]) * ground
    image += rng.normal(0, 3, image.shape)
    return image.round().clip(0, 255).astype(np.uint8)


def grid(centre: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of every sample (N, S, S) its x and y in pixels from the centre (2, N), and in radii (N,)."""
    at = ((np.arange(SIDE * SAMPLES) + 0.5) / SAMPLES - SIDE / 2).astype(np.float32)
    x, y = np.broadcast_arrays(
        at[None, None, :] - centre[0, :, None, None], at[None, :, None] - centre[1, :, None, None]
    )
    return x, y, x / radius[:, None, None], y / radius[:, None, None]


def pixels(samples: np.ndarray) -> np.ndarray:
    """(N, 16, 16): the mean over the samples (N, S, S) of each pixel."""
    return samples.reshape(-1, SIDE, SAMPLES, SIDE, SAMPLES).mean((2, 4))


def judged(images: Tensor) -> tuple[Tensor, Tensor]:
    """Colour and size of uint8 images (N, 3, 16, 16), as numbers of their values; -1: no coloured
    pixel, or too few.
    """
    pixels = images.float()
    high, low = pixels.amax(1), pixels.amin(1)
    coloured = (high - low) > 25
    red, green, blue = (pixels * coloured[:, None]).sum((2, 3)).unbind(1)
    hue = torch.rad2deg(torch.atan2(3**0.5 * (green - blue), 2 * red - green - blue)) % 360
    # red, yellow, green, blue, red again: the hues between the looks of two colours' words
    place = torch.bucketize(hue, torch.tensor([29.0, 66.0, 186.0, 290.0], device=hue.device))
    colour = torch.tensor([0, 3, 1, 2, 0], device=hue.device)[place]
    span = coloured.any(1).sum(1).maximum(coloured.any(2).sum(1))  # the longer side, in pixels
    there = coloured.flatten(1).sum(1) >= 6
    return torch.where(there, colour, -1), torch.where(there, (span > 9).long(), -1)
