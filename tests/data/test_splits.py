"""Forget sets of single images."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unrelearn.data.digits import Digits
from unrelearn.data.splits import Examples, forget_indexes
from unrelearn.errors import UsageError
from unrelearn.forgotten import KINDS, names_examples


@pytest.fixture(scope="module")
def examples() -> Examples:
    data = Digits(label_noise=0.2).load()
    scores = torch.linspace(0, 1, len(data.train)).sin()
    return Examples(data.train.labels, data.class_names, data.true_labels, scores)


@pytest.fixture
def saved(tmp_path: Path):
    def save(array: object) -> str:
        np.save(tmp_path / "i.npy", array, allow_pickle=True)
        return f"file:{tmp_path / 'i.npy'}"

    return save


@pytest.mark.parametrize("forget", ["random:0.1", "class:3", "memorised:0.1", "mislabelled:0.02"])
def test_indexes_are_ascending_each_once_and_leave_others(forget: str, examples: Examples):
    indexes = forget_indexes(forget, examples, seed=0)
    assert indexes.dtype == torch.int64 and 0 < len(indexes) < len(examples.labels)
    assert (indexes.diff() > 0).all() and indexes.min() >= 0
    assert indexes.max() < len(examples.labels)
    assert torch.equal(indexes, forget_indexes(forget, examples, seed=0))


def test_a_random_share_is_as_large_as_asked_and_another_for_another_seed(examples: Examples):
    first, other = (forget_indexes("random:0.1", examples, seed) for seed in (0, 1))
    assert len(first) == len(other) == round(0.1 * 1297)
    # two random tenths share a hundredth: 13 images, standard deviation 3.2
    assert 0 < np.intersect1d(first, other).size < 30
    assert len(forget_indexes("random:0.5", examples, 0)) == 648


def test_a_class_by_number_and_by_name_is_all_of_it_for_every_seed(examples: Examples):
    indexes = forget_indexes("class:3", examples, seed=0)
    assert torch.equal(indexes, torch.where(examples.labels == 3)[0])
    assert torch.equal(indexes, forget_indexes("class:3", examples, seed=5))
    named = replace(examples, class_names=tuple("abcdefghij"))
    assert torch.equal(indexes, forget_indexes("class:d", named, seed=0))


def test_a_file_says_which_in_any_order(examples: Examples, saved):
    indexes = forget_indexes(saved(np.array([7, 0, 1296])), examples, seed=0)
    assert indexes.tolist() == [0, 7, 1296]
    assert forget_indexes(saved(np.array([5], np.uint16)), examples, seed=0).tolist() == [5]


def test_memorised_are_those_of_the_highest_scores(examples: Examples):
    indexes = forget_indexes("memorised:0.1", examples, seed=0)
    rest = np.setdiff1d(np.arange(1297), indexes)
    assert examples.memorisation[indexes].min() >= examples.memorisation[rest].max()
    assert len(indexes) == 130


def test_mislabelled_are_wrong_and_drawn_by_the_seed(examples: Examples):
    first, other = (forget_indexes("mislabelled:0.02", examples, seed) for seed in (0, 1))
    for indexes in (first, other):
        assert len(indexes) == 26
        assert (examples.labels[indexes] != examples.true_labels[indexes]).all()
    assert not torch.equal(first, other)


def test_what_chooses_images_is_told_from_what_chooses_classes():
    assert all(names_examples(example) for example in KINDS.values())
    assert not any(names_examples(other) for other in (3, [1, 4], "3", "cat", "+Male", "a:b"))


def refused(forget: str, examples: Examples) -> str:
    with pytest.raises(UsageError) as error:
        forget_indexes(forget, examples, seed=0)
    (line,) = error.value.problems
    assert line.startswith(f"forget={forget}: ")
    return line


@pytest.mark.parametrize("share", ["0", "1", "1.5", "-0.1", "nan", "inf", "many"])
@pytest.mark.parametrize("kind", ["random", "memorised", "mislabelled"])
def test_a_share_outside_0_and_1_is_refused(kind: str, share: str, examples: Examples):
    line = refused(f"{kind}:{share}", examples)
    assert "more than 0 and less than 1" in line and f"type forget={kind}:" in line


@pytest.mark.parametrize(
    ("forget", "why"),
    [
        ("random:0.0001", "of 1297 training images this is none"),
        ("random:0.9999", "none would be left to retain"),
        ("class:10", "no such class; allowed: 0 to 9"),
        ("class:cat", "no such class; allowed: 0 to 9"),
        ("class:-1", "no such class"),
        ("mislabelled:0.9", "1167 images, and 259 have a wrong label"),
        ("file:nowhere.npy", "no such file"),
        ("random:", "must be one of random:0.1, class:0"),
        ("worst:0.1", "must be one of"),
    ],
)
def test_what_can_not_be_is_refused_in_a_line(forget: str, why: str, examples: Examples):
    assert why in refused(forget, examples)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ([0, 1297], "1 of 2 indexes are out of range, the first is 1297"),
        ([-1, 3], "the first is -1"),
        ([4, 2, 4, 9, 9], "2 indexes are repeated, the first is 4"),
        (range(1297), "none would be left"),
        ([0.5, 1.0], "no list of whole numbers"),
        ([True, False], "no list of whole numbers"),
        ([[1, 2]], "no list of whole numbers"),
        (np.array([], np.int64), "lists no image"),
        ([None, "a"], "is no file of numpy.save; save whole numbers"),
    ],
)
def test_a_file_of_anything_else_is_refused(content: object, why: str, examples, saved):
    assert why in refused(saved(np.array(content)), examples)


def test_a_file_that_is_no_array_is_refused(tmp_path: Path, examples: Examples):
    path = tmp_path / "i.npy"
    for content in (b"", b"1 2 3", b"\x93NUMPY", b"PK\x03\x04 cut short"):
        path.write_bytes(content)
        assert "is no file of numpy.save" in refused(f"file:{path}", examples)
    np.savez(tmp_path / "i.npz", a=np.arange(3))
    assert "no list of whole numbers" in refused(f"file:{tmp_path / 'i.npz'}", examples)


def test_a_class_that_is_all_there_is_is_refused(examples: Examples):
    alone = replace(examples, labels=torch.full((20,), 3))
    assert "all 20 training images" in refused("class:3", alone)
    assert "no training image is of class 4" in refused("class:4", alone)


def test_what_is_not_known_is_asked_for(examples: Examples):
    bare = Examples(examples.labels, examples.class_names)
    assert "is not known here; type forget=random:0.1" in refused("memorised:0.1", bare)
    assert "type dataset=digits dataset.label_noise=0.2" in refused("mislabelled:0.1", bare)


def test_the_share_that_is_advised_can_be_typed(examples: Examples):
    advised = re.search(r"forget=(mislabelled:\S+),", refused("mislabelled:0.5", examples))
    assert len(forget_indexes(advised[1], examples, seed=0)) <= 259
