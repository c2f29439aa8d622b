"""Scores of records by a denoiser, each against an implementation of its own: numpy, one image and
one number at a time.
"""

from importlib import import_module

import numpy as np
import pytest
import torch
from tiny import SCHEDULE
from torch import Tensor

from unrelearn.diffusion import maths
from unrelearn.randomness import generator_for

NAMES = ("loss", "secmi", "pia", "sima")
ABAR = maths.alphas_of(SCHEDULE).double()
abar = ABAR.numpy()


def images(n: int = 5) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(0)).double() * 2 - 1


def predict(x: Tensor, t: int) -> Tensor:
    """A small function of image and time that no formula here knows."""
    return torch.tanh(x + 0.3 * x.roll(1, -1)) * (0.2 + t / 1000)


def predicted(x: np.ndarray, t: int) -> np.ndarray:
    """The same of one image (4, 4)."""
    return np.tanh(x + 0.3 * np.roll(x, 1, -1)) * (0.2 + t / 1000)


def loss(x: np.ndarray) -> float:
    errors = []
    for number in range(8):
        noise = torch.randn(1, 4, 4, generator=generator_for("membership", number))[0].numpy()
        x_t = np.sqrt(abar[100]) * x + np.sqrt(1 - abar[100]) * noise
        errors.append(np.mean((predicted(x_t, 100) - noise) ** 2))
    return -float(np.mean(errors))


def ddim(x: np.ndarray, t: int, to: int) -> np.ndarray:
    eps = predicted(x, t)
    clean = (x - np.sqrt(1 - abar[t]) * eps) / np.sqrt(abar[t])
    return np.sqrt(abar[to]) * clean + np.sqrt(1 - abar[to]) * eps


def secmi(x: np.ndarray) -> float:
    for t in (0, 10, 20, 30, 40, 50, 60, 70, 80, 90):
        x = ddim(x, t, t + 10)
    again = ddim(ddim(x, 100, 110), 110, 100)
    return -float(np.sqrt(np.sum((again - x) ** 2)))


def pia(x: np.ndarray) -> float:
    eps = predicted(x, 0)
    x_t = np.sqrt(abar[200]) * x + np.sqrt(1 - abar[200]) * eps
    return -float(np.sum(np.abs(eps - predicted(x_t, 200)) ** 4) ** 0.25)


def sima(x: np.ndarray) -> float:
    return -float(np.sum(np.abs(predicted(x, 100)) ** 4) ** 0.25)


@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_that_of_an_independent_implementation(name: str):
    found = import_module(f"unrelearn.audits.{name}").score(predict, images(), ABAR)
    wanted = [globals()[name](x[0].numpy()) for x in images()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_score_depends_neither_on_the_batch_nor_on_the_call(name: str):
    score = import_module(f"unrelearn.audits.{name}").score
    whole, parts = score(predict, images(), ABAR), images().split(2)
    assert torch.equal(whole, score(predict, images(), ABAR))
    assert torch.allclose(whole, torch.cat([score(predict, part, ABAR) for part in parts]))


@pytest.mark.parametrize("name, calls", [("loss", 8), ("secmi", 12), ("pia", 2), ("sima", 1)])
def test_a_score_takes_as_many_calls_as_it_says(name: str, calls: int):
    times = []

    def counted(x: Tensor, t: int) -> Tensor:
        times.append(t)
        return predict(x, t)

    import_module(f"unrelearn.audits.{name}").score(counted, images(), ABAR)
    assert len(times) == calls and max(times) < 1000


@pytest.mark.parametrize("name", ["loss", "secmi"])
def test_a_model_that_knows_two_records_scores_them_higher(name: str):
    """Its answer is the noise that leads from the nearest of them: right for these alone."""
    records = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)).double() * 2 - 1

    def knowing(x_t: Tensor, t: int) -> Tensor:
        clean = x_t / ABAR[t].sqrt()
        near = torch.cdist(clean.flatten(1), records[:2].flatten(1)).argmin(1)
        return (x_t - ABAR[t].sqrt() * records[near]) / (1 - ABAR[t]).sqrt()

    found = import_module(f"unrelearn.audits.{name}").score(knowing, records, ABAR)
    assert found[:2].min() > found[2:].max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("times", [2, 4, 50])
def test_a_short_schedule_has_times_enough(name: str, times: int):
    short = maths.alphas_cumprod(times).double()
    found = import_module(f"unrelearn.audits.{name}").score(predict, images(), short)
    assert found.shape == (5,) and found.isfinite().all()
