"""Augmentations: functions of (seed, step, image), and what each may do."""

import pytest
import torch
from torch import Tensor

from unrelearn.classification.augmentation import POLICIES, _mixed, augment, padding
from unrelearn.data.digits import Digits
from unrelearn.errors import UsageError

CHANGING = [name for name in POLICIES if name != "none"]

MOST = padding(16)


@pytest.fixture(scope="module")
def images() -> Tensor:
    """24 colour images uint8 (24, 3, 16, 16), of digits in three colours."""
    digits = Digits().load().train.images[:72].reshape(24, 3, 8, 8)
    return digits.repeat_interleave(2, -1).repeat_interleave(2, -2)


def run(name: str, images: Tensor, index: Tensor | None = None, **changes) -> Tensor:
    index = torch.arange(len(images)) if index is None else index
    return augment(name, images, index, **{"seed": 0, "step": 3, "flip": True, **changes})


@pytest.mark.parametrize("name", CHANGING)
def test_an_image_is_changed_alike_whatever_the_batch(name: str, images: Tensor):
    whole = run(name, images)
    order = torch.tensor([17, 3, 8])
    assert torch.equal(run(name, images[order], order), whole[order])
    assert whole.dtype == torch.uint8 and whole.shape == images.shape
    assert not torch.equal(whole, images)


@pytest.mark.parametrize("name", CHANGING)
def test_seed_step_and_image_each_change_what_is_drawn(name: str, images: Tensor):
    same = images[:1].expand(24, -1, -1, -1)
    first = run(name, same)
    assert len(first.flatten(1).unique(dim=0)) > 12  # by the image's number alone
    assert not torch.equal(first, run(name, same, seed=1))
    assert not torch.equal(first, run(name, same, step=4))
    state = torch.random.get_rng_state()
    assert torch.equal(first, run(name, same))
    assert torch.equal(state, torch.random.get_rng_state())  # nothing else draws from it


@pytest.mark.parametrize("name", CHANGING)
def test_grey_images_stay_grey(name: str, images: Tensor):
    assert run(name, images[:, :1]).shape == (24, 1, 16, 16)


def test_none_changes_nothing_and_what_does_not_exist_is_refused(images: Tensor):
    assert run("none", images) is images
    with pytest.raises(UsageError, match="no such augmentation; allowed: none, crop_flip"):
        run("cutout", images)


def test_a_crop_is_a_window_of_the_padded_image_or_of_its_mirror(images: Tensor):
    n, size = 200, 16
    changed = run("crop_flip", images[:1].expand(n, -1, -1, -1), torch.arange(n))
    windows = {}
    for mirrored, image in ((0, images[0]), (1, images[0].flip(-1))):
        padded = torch.nn.functional.pad(image, (MOST,) * 4)
        for dy in range(2 * MOST + 1):
            for dx in range(2 * MOST + 1):
                window = padded[:, dy : dy + size, dx : dx + size]
                windows[window.numpy().tobytes()] = (mirrored, dy, dx)
    seen = [windows[image.contiguous().numpy().tobytes()] for image in changed]  # no other
    mirrored, dy, dx = zip(*seen, strict=True)
    assert 70 < sum(mirrored) < 130  # of 200, standard deviation 7
    assert set(dy) == set(dx) == set(range(2 * MOST + 1))


def test_what_must_not_be_mirrored_is_not(images: Tensor):
    ramp = torch.arange(1, 17, dtype=torch.uint8).expand(50, 1, 16, 16)  # brighter to the right
    for flip, rising in ((False, 50), (True, range(10, 41))):
        steps = run("crop_flip", ramp, torch.arange(50), flip=flip)[:, 0, 8, 5:11].int().diff()
        count = (steps > 0).all(1).sum().item()
        assert count == rising if isinstance(rising, int) else count in rising


def test_an_erasing_changes_a_quarter_beyond_the_crop(images: Tensor):
    n = 400
    many = torch.full((n, 3, 16, 16), 200, dtype=torch.uint8)
    cropped, erased = (run(name, many, torch.arange(n)) for name in ("crop_flip", "erasing"))
    touched = (cropped != erased).flatten(1).any(1).sum().item()
    assert 60 < touched < 140  # of 400, expected 100, standard deviation 9


def test_the_mixing_is_splitmix64():
    # the published generator from state 0, and from 1234567
    expected = [0xE220A8397B1DCDAF, 6457827717110365317]
    found = [int(v) % 2**64 for v in _mixed(torch.tensor([0, 1234567]))]
    assert found == expected


def test_small_images_are_shifted_less():
    assert [padding(size) for size in (4, 8, 28, 32, 64)] == [1, 1, 3, 4, 4]
