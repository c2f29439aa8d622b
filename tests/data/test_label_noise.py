"""Digits with wrong labels: the testbed in which there is something to forget."""

import pytest
import torch

from unrelearn.data.digits import Digits


def test_without_noise_nothing_is_other_than_it_was():
    plain = Digits()
    assert plain.fingerprint() == "digits" and plain.load().true_labels is None


def test_a_share_of_the_training_labels_is_wrong_and_the_true_ones_are_kept():
    clean, noisy = Digits().load(), Digits(label_noise=0.2).load()
    assert torch.equal(noisy.true_labels, clean.train.labels)
    assert torch.equal(noisy.train.images, clean.train.images)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    wrong = noisy.train.labels != noisy.true_labels
    assert wrong.sum() == round(0.2 * 1297)
    assert noisy.train.labels.min() == 0 and noisy.train.labels.max() == 9
    # none of the nine other classes is preferred: 259 / 9 = 29 each, give or take four times 5
    shift = (noisy.train.labels - noisy.true_labels)[wrong] % 10
    assert shift.bincount(minlength=10)[1:].sub(29).abs().max() < 20


def test_the_seed_decides_which_and_the_fingerprint_knows_both():
    first, again, other = (Digits(0.2, seed).load().train.labels for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({Digits(*a).fingerprint() for a in ((), (0.2,), (0.2, 1), (0.1,))}) == 4


@pytest.mark.parametrize("share", [-0.1, 1.0, 7.0])
def test_a_share_that_is_none_is_refused(share: float):
    (problem,) = Digits(label_noise=share).check()
    assert problem.startswith(f"dataset.label_noise={share}:") and "type dataset." in problem
