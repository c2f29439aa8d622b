"""Measurements of one model, each against a closed form or a count by hand."""

import math

import numpy as np
import pytest

from unrelearn.audits import bounds
from unrelearn.classification import scores

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(60, 5)) * 2
LABELS = rng.integers(0, 5, 60)


def certain(classes: list[int], num_classes: int = 4, height: float = 500) -> np.ndarray:
    """Logits (N, K) that are all for one class."""
    return height * np.eye(num_classes)[classes]


def test_accuracy_counts():
    logits = certain([0, 1, 2, 3, 0])
    assert scores.accuracy(logits, np.array([0, 1, 2, 0, 0])) == pytest.approx(0.8)
    assert scores.errs(logits, np.array([0, 1, 2, 0, 0])).tolist() == [0, 0, 0, 1, 0]


def test_confidence_and_its_logit():
    p = scores.confidence(LOGITS, LABELS)
    expected = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    assert np.allclose(p, [row[label] for row, label in zip(expected, LABELS, strict=True)])
    assert np.allclose(scores.logit_scaled(LOGITS, LABELS), np.log(p) - np.log1p(-p))


def test_the_logit_is_exact_where_the_probability_is_one_in_float64():
    logits = np.array([[100.0, 0.0, 0.0]], dtype=np.float16)
    assert scores.confidence(logits, np.array([0]))[0] == 1
    assert scores.logit_scaled(logits, np.array([0]))[0] == pytest.approx(100 - math.log(2))


def test_svc_on_separable_confidences_says_what_each_is():
    low, high = np.linspace(0.1, 0.2, 40), np.linspace(0.8, 0.9, 90)
    assert scores.mia_svc(low, retain=high, test=low) == 1
    assert scores.mia_svc(high, retain=high, test=low) == 0
    assert scores.mia_svc(np.array([0.1, 0.15, 0.85, 0.9]), high, low) == 0.5


def test_svc_sees_the_first_of_the_retain_set_only():
    test = np.linspace(0.1, 0.2, 30)
    retain = np.concatenate([np.linspace(0.8, 0.9, 30), np.linspace(0.1, 0.2, 300)])
    assert scores.mia_svc(test, retain, test) == 1


def test_svc_moves_with_the_temperature_and_auc_hardly():
    """What a control of temperature shows: no decision changes, the published number does."""
    g = np.random.default_rng(1)
    labels = g.integers(0, 10, 900)
    logits = g.normal(size=(900, 10)) + 2 * np.eye(10)[labels]
    logits[:600] += np.eye(10)[labels[:600]]
    cut = np.split(np.arange(900), [300, 600])  # forget and retain are fitted, test is not

    def measured(temperature: float) -> tuple[float, float]:
        z = logits / temperature
        forget, retain, test = (scores.confidence(z[i], labels[i]) for i in cut)
        phi = [scores.logit_scaled(z[i], labels[i]) for i in cut]
        return scores.mia_svc(forget, retain, test), bounds.auc(phi[0], phi[2])

    (cold, first), (hot, second) = measured(0.2), measured(5)
    assert abs(first - second) < 0.02 < abs(cold - hot)


def test_agreement_with_one_is_the_share_and_with_several_its_mean():
    references = np.stack([certain([0, 1, 2, 3]), certain([0, 0, 2, 2])])
    ours = certain([0, 1, 2, 3], height=0.1)
    assert scores.agreement(ours, references[:1]) == 1
    assert scores.agreement(ours, references) == 0.75
    assert scores.agreement(certain([3, 2, 1, 0]), references[:1]) == 0


def test_misses_correlate_with_themselves_and_not_with_others():
    labels = np.zeros(4, dtype=int)
    ours, same, other = certain([1, 0, 1, 0]), certain([2, 0, 3, 0]), certain([1, 1, 0, 0])
    assert scores.correlation_of_misses(ours, same[None], labels) == pytest.approx(1)
    assert scores.correlation_of_misses(ours, other[None], labels) == pytest.approx(0)
    both = scores.correlation_of_misses(ours, np.stack([same, other]), labels)
    assert both == pytest.approx(np.corrcoef([1, 0, 1, 0], [1, 0.5, 0.5, 0])[0, 1])
    assert math.isnan(scores.correlation_of_misses(certain([0] * 4), same[None], labels))


def test_jensen_shannon_is_0_of_the_same_1_of_disjoint_and_symmetric():
    assert scores.jensen_shannon(LOGITS, LOGITS[None] + 3) == pytest.approx(0, abs=1e-7)
    assert scores.jensen_shannon(certain([0, 1]), certain([1, 2])[None]) == pytest.approx(1)
    half = np.array([[0.0, 0.0, -900.0, -900.0]])  # (1/2, 1/2) against (1, 0)
    by_hand = math.sqrt(
        0.5 * (0.5 * math.log2(2 / 3) + 0.5 * math.log2(2)) + 0.5 * math.log2(4 / 3)
    )
    assert scores.jensen_shannon(half, certain([0])[None]) == pytest.approx(by_hand)
    assert scores.jensen_shannon(certain([0]), half[None]) == pytest.approx(by_hand)
    several = np.stack([half, certain([0])])
    assert scores.jensen_shannon(certain([0]), several) == pytest.approx(by_hand / 2)


def test_calibration_of_certain_and_of_honest_models():
    logits = certain([0] * 10)
    labels = np.array([0] * 7 + [1] * 3)
    assert scores.expected_calibration_error(logits, labels) == pytest.approx(0.3)
    honest = np.log(np.array([[0.7, 0.3, 1e-12, 1e-12]] * 10))
    assert scores.expected_calibration_error(honest, labels) == pytest.approx(0, abs=1e-9)
    # two bins of unequal size: 10 images at .7 of which .7 are right, 5 at 1 of which none is
    both = np.concatenate([honest, certain([0] * 5)])
    error = scores.expected_calibration_error(both, np.append(labels, [2] * 5))
    assert error == pytest.approx(5 / 15)
