"""The average gap, by hand."""

from statistics import fmean

import pytest
import torch

from unrelearn.evals import gap
from unrelearn.evals.answers import Answers, ClassifierEvidence


def answers(count: int, misses: list[int]) -> Answers:
    """Sure answers to images of class 0, the last of which a model misses; then its references."""
    wrong = torch.tensor([[n >= count - m for n in range(count)] for m in misses])
    logits = 50 * torch.nn.functional.one_hot(wrong.long(), 2).float()
    return Answers(logits[0], torch.zeros(count, dtype=torch.int64), logits[1:])


def evidence(times: int = 1) -> ClassifierEvidence:
    """UA 0.1 beside 0.2, 0.3, 0.4; RA 1 beside 1, 0.99, 0.98; TA 0.9 beside 0.9, 0.8, 0.7. Of sure
    answers the support vector machine calls those wrong ones "not trained on", which more test
    images have than retained ones: MIA is UA.
    """
    counts = {20: [2, 4, 6, 8], 100: [0, 0, 1, 2], 50: [5, 5, 10, 15]}
    forget, retain, test = (
        answers(times * count, [times * n for n in misses]) for count, misses in counts.items()
    )
    return ClassifierEvidence({"1.0": forget}, {"1.0": retain}, test, [], 2)


def test_value_and_floor_are_mean_distances():
    found = gap.run(evidence())
    assert [found[name] for name in ("ua", "ra", "ta", "mia_svc")] == pytest.approx(
        [0.1, 1, 0.9, 0.1]
    )
    assert [each["mia_svc"] for each in found["references"]] == pytest.approx([0.2, 0.3, 0.4])
    # against the means 0.3, 0.99, 0.8, 0.3
    assert found["value"] == pytest.approx((0.2 + 0.01 + 0.1 + 0.2) / 4)
    # each reference against the mean of the two others; the middle one is that mean
    outer = (0.15 + 0.015 + 0.15 + 0.15) / 4
    assert found["floors"] == pytest.approx([outer, 0, outer])
    assert found["floor"] == pytest.approx(fmean([outer, 0, outer]))


def test_the_interval_holds_the_value_and_shrinks_with_the_images():
    few, many = (gap.run(evidence(times)) for times in (1, 16))
    assert few["value"] == pytest.approx(many["value"])
    widths = [each["high"] - each["low"] for each in (few, many)]
    assert all(each["low"] < each["value"] < each["high"] for each in (few, many))
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.3)
