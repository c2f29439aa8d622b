"""Images that show nothing, which the classifiers learn to call so: a network that is ruined draws
such.

A classifier that knows only its classes must name one of them for whatever it is shown, and which
one is chance: of uniform noise two out of three images were called an 8. A class of its own for
what shows nothing is the simplest form of rejection (a background class, Dhamija et al. 2018, arXiv
1811.04110).

Every function takes real images (N, C, S, S) float32 in [-1, 1], their mean over the training set
(C, S, S) and a generator, and returns as many images in the same range; most use no more of the
images than their shape. No network draws any of them.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

# share of a real image in noise, as sqrt(abar_t) in x_t: a viewer can not name what is below the
# first, and can above the second
INVISIBLE, VISIBLE = 0.25, 0.7


def _uniform(images: Tensor, g: Generator, low: float, high: float) -> Tensor:
    """One number for each image, (N, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, generator=g) * (high - low) + low


def _normal(images: Tensor, g: Generator) -> Tensor:
    return torch.randn(images.shape, generator=g)


def _noised(images: Tensor, signal: Tensor, g: Generator) -> Tensor:
    """As x_t is: the squares of the shares of signal and noise add up to one."""
    return signal * images + (1 - signal.square()).sqrt() * _normal(images, g)


def veiled(images: Tensor, generator: Generator) -> Tensor:
    """Real images under noise through which they are seen, clamped to [-1, 1]. They keep their
    labels: classifiers that meet noise only where it shows nothing call every noisy image nothing.
    """
    return _noised(images, _uniform(images, generator, VISIBLE, 1), generator).clamp(-1, 1)


def uniform_noise(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """Each pixel by itself, over the whole range or half of it at the least."""
    noise = torch.rand(images.shape, generator=g) * 2 - 1
    contrast = _uniform(images, g, 0.5, 1)
    return contrast * noise + (1 - contrast) * _uniform(images, g, -1, 1)


def gaussian_noise(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """Around any grey, and clamped."""
    return _uniform(images, g, -0.5, 0.5) + _uniform(images, g, 0.3, 1.5) * _normal(images, g)


def binary_noise(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """Black and white pixels, from few white ones to few black ones."""
    return (torch.rand(images.shape, generator=g) < _uniform(images, g, 0.1, 0.9)).float() * 2 - 1


def flat(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """One grey or, every second image, one colour; with next to no noise on it."""
    colour = torch.rand(*images.shape[:2], 1, 1, generator=g) * 2 - 1
    colour[::2] = colour[::2, :1]
    return colour + _uniform(images, g, 0, 0.1) * _normal(images, g)


def permuted(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """The pixels of each real image in another order: its colours, and nothing of its shape."""
    n, c, h, w = images.shape
    order = torch.rand(n, 1, h * w, generator=g).argsort(-1).expand(-1, c, -1)
    return images.reshape(n, c, h * w).gather(2, order).view(n, c, h, w)


def blurred_mean(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """The mean of all training images with noise on it, as of a network that has forgotten what it
    was asked for.
    """
    return mean.expand_as(images) + _uniform(images, g, 0, 0.7) * _normal(images, g)


def smooth_field(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """Noise of few pixels made large, as networks of random weights draw: clouds, often as dark and
    as bright as can be.
    """
    n, c, size, _ = images.shape
    coarse = max(2, round(size / 2 ** torch.randint(1, 4, (1,), generator=g).item()))
    clouds = F.interpolate(
        torch.randn(n, c, coarse, coarse, generator=g),
        size=size,
        mode="bilinear",
        align_corners=False,
    )
    grain = _uniform(images, g, 0, 0.3) * _normal(images, g)
    return _uniform(images, g, -0.5, 0.5) + _uniform(images, g, 0.3, 4) * clouds + grain


def drowned(images: Tensor, mean: Tensor, g: Generator) -> Tensor:
    """Real images under so much noise that nothing is seen of them."""
    return _noised(images, _uniform(images, g, 0, INVISIBLE), g)


KINDS = (
    uniform_noise,
    gaussian_noise,
    flat,
    permuted,
    smooth_field,
    drowned,
    *[binary_noise] * 2,
    *[blurred_mean] * 3,
)  # more often what is learned last


def draw(mean: Tensor, images: Tensor, generator: Generator) -> Tensor:
    """One image that shows nothing for each of the images, of a kind drawn at random; clamped to
    [-1, 1].
    """
    kind, negatives = torch.randint(len(KINDS), (len(images),), generator=generator), images.clone()
    for index, make in enumerate(KINDS):
        if (chosen := kind == index).any():
            negatives[chosen] = make(images[chosen], mean, generator)
    return negatives.clamp(-1, 1)
