"""The drawn shapes: what they are called, that they show it, and that they are a function of the
seed.
"""

from functools import cache
from types import SimpleNamespace

import pytest
import torch

from unrelearn.config import forget_classes
from unrelearn.data import ImageData
from unrelearn.data.shapes import Shapes
from unrelearn.data.shapes_words import WORDINGS, WORDS
from unrelearn.errors import UsageError


@cache
def small() -> ImageData:
    return Shapes(8).load()


def test_there_is_an_image_of_every_combination_in_every_wording():
    data = small().train
    assert data.images.shape == (96 * 8, 3, 16, 16) and data.images.dtype == torch.uint8
    pairs = set(zip(data.labels.tolist(), data.wordings.tolist(), strict=True))
    assert pairs == {(c, w) for c in range(96) for w in range(len(WORDINGS))}
    assert len(small().test) == 96 * 16


def test_the_images_are_a_function_of_the_seed():
    again = Shapes(8).load().train
    assert torch.equal(again.images, small().train.images)
    assert torch.equal(again.wordings, small().train.wordings)
    assert not torch.equal(Shapes(8, seed=1).load().train.images, again.images)
    assert len({Shapes(*given).fingerprint() for given in ((8, 0), (8, 1), (9, 0))}) == 3


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("red", 24),
        ("circle", 24),
        ("checkered", 32),
        ("red circle", 6),
        ("small red solid cross", 1),
    ],
)
def test_a_word_names_the_combinations_whose_caption_holds_it(word: str, count: int):
    dataset = Shapes()
    named = forget_classes(word, dataset)
    assert len(named) == count
    for label, captions in enumerate(dataset.captions):
        # words, not letters: checkered holds "red"
        assert (set(word.split()) <= set(captions[0].split())) == (label in named)


@pytest.mark.parametrize("word", ["crimson", "purple", "circle red"])
def test_a_word_that_no_canonical_caption_holds_is_refused(word: str):
    with pytest.raises(UsageError, match="no such class"):
        forget_classes(word, Shapes())


def test_class_may_stand_before_a_name_or_an_index():
    dataset = SimpleNamespace(class_names=("cat", "class:0", "dog", "0"))
    named = {"class:cat": [0], "class:2": [2], "class:0": [1], "class:class:0": [1]}
    assert {word: forget_classes(word, dataset) for word in named} == named
    assert forget_classes(["class:2", "class:cat", 0], dataset) == [0, 2, 3]
    with pytest.raises(UsageError, match=r"forget=class:dig: no such class; .*Type forget=dog"):
        forget_classes("class:dig", dataset)


def test_all_values_of_an_attribute_leave_no_retain_set():
    with pytest.raises(UsageError, match="empty"):
        forget_classes(["circle", "square", "triangle", "cross"], Shapes())


def test_the_counterpart_differs_in_the_forgotten_attribute_alone():
    dataset = Shapes()
    for word, attribute in (("red", "colour"), ("circle", "shape"), ("red circle", "colour")):
        forgotten = forget_classes(word, dataset)
        for label in forgotten:
            other = dataset.counterpart(label, forgotten)
            changed = {a for a, of in dataset.attributes.items() if of[label] != of[other]}
            assert changed == {attribute} and other not in forgotten


def test_no_word_stands_for_two_values():
    words = [word for values in WORDS.values() for of in values for word in of]
    assert len(words) == len(set(words)) == 30


def test_synonyms_look_different():
    """The mean spectrum of a word is further from its synonym's than that of two halves of its
    own.
    """
    data, dataset = Shapes(48).load().train, Shapes(48)
    x = torch.fft.fft2(data.images.float()).abs()  # where a texture begins does not matter
    for wording in range(3, len(WORDINGS)):
        attribute = list(WORDS).index(WORDINGS[wording].attribute)
        for value in range(len(WORDS[WORDINGS[wording].attribute])):
            of = torch.tensor(dataset.words.values)[data.labels, attribute] == value
            own = x[of & (data.wordings == 0)]
            other = x[of & (data.wordings == wording)]
            halves = (own[::2].mean(0) - own[1::2].mean(0)).norm()
            assert (own.mean(0) - other.mean(0)).norm() > 1.3 * halves


def test_colour_and_size_can_be_computed_from_the_pixels():
    dataset, data = Shapes(8), small().test
    for attribute, found in dataset.judge(data.images).items():
        place = list(WORDS).index(attribute)
        truth = torch.tensor(dataset.words.values)[data.labels, place]
        assert (found == truth).float().mean() > 0.98, attribute
    grey = torch.full((2, 3, 16, 16), 90, dtype=torch.uint8)
    assert all((found == -1).all() for found in dataset.judge(grey).values())


def test_captions_stay_beside_their_images():
    data = small().train
    red = forget_classes("red", Shapes(8))
    part = data.of_classes(red, keep=False)
    assert torch.equal(part.wordings, data.wordings[~torch.isin(data.labels, torch.tensor(red))])
    whole = type(data).join([data.of_classes(red), part])
    assert len(whole.wordings) == len(data) and whole.to("cpu").wordings is not None


def test_too_few_images_is_one_line():
    (line,) = Shapes(3).check()
    assert line.startswith("dataset.images_per_combination=3: ") and line.endswith("=80")
