"""What is measured of a classifier's answers, counted by hand."""

import numpy as np
import pytest
import torch

from unrelearn.evals import calibration, loss_attack, mia_svc, retrain_agreement, test_accuracy
from unrelearn.evals.answers import Answers, ClassifierEvidence


def sure(classes: list[int], num_classes: int = 3) -> torch.Tensor:
    """Logits (N, K) that are all for one class."""
    return 500.0 * torch.nn.functional.one_hot(torch.tensor(classes), num_classes)


def by_margin(*models: list[float]) -> Answers:
    """Images of class 0 of two, by their logit-scaled confidence; then the references'."""
    logits = torch.tensor([[[m, 0.0] for m in model] for model in models])
    labels = torch.zeros(logits.shape[1], dtype=torch.int64)
    return Answers(logits[0], labels, logits[1:])


def evidence(
    forget: Answers, test: Answers, retain: Answers | None = None, classes: tuple[int, ...] = ()
) -> ClassifierEvidence:
    count = forget.logits.shape[1]
    return ClassifierEvidence({"1.0": forget}, {"1.0": retain or test}, test, [*classes], count)


def test_the_loss_attack_tells_the_forget_set_from_test_images():
    test = [4.5, 3.0, 2.0, *[-1.0] * 197]
    forget = by_margin([5.0, 4.0, 1.0, 0.0], [0.0] * 4, [1.0] * 4, [-1.0] * 4)
    found = loss_attack.run(evidence(forget, by_margin(test, *[[0.0] * 200] * 3)))
    # of 200 images 2 may be taken wrongly at 1 %, none at 0.1 %
    assert found["tpr_at_1_percent"] == 2 / 4 and found["tpr_at_0.1_percent"] == 1 / 4
    assert found["value"] == pytest.approx((200 + 199 + 197 + 197) / 800)
    assert found["references"] == [0.5, 1.0, 0.0]


def test_mia_is_of_forgotten_images_by_the_confidence_of_the_other_two():
    low, high = np.linspace(-2, -1.5, 40).tolist(), np.linspace(1.5, 2, 40).tolist()
    forget = by_margin([*low[:10], *high[:30]])
    found = mia_svc.run(evidence(forget, by_margin(low), by_margin(high)))
    assert found["value"] == 10 / 40


def test_calibration_and_accuracy_are_of_test_images_of_retained_classes():
    labels = torch.tensor([0] * 7 + [1] * 3 + [2] * 90)
    references = torch.zeros(1, 100, 3)
    test = Answers(sure([0] * 100), labels, references)
    found = evidence(test, test, classes=(2,))
    assert calibration.run(found)["value"] == pytest.approx(0.3)
    known = test_accuracy.run(found)
    assert known["value"] == pytest.approx(0.7) and known["n"] == 10
    assert (known["forgotten"]["value"], known["forgotten"]["n"]) == (0, 90)
    assert "forgotten" not in test_accuracy.run(evidence(test, test))


def test_agreement_is_image_by_image_and_the_ceiling_that_of_the_references():
    labels, ours = torch.tensor([0, 1, 2, 1]), [0, 1, 2, 2]
    theirs = [[0, 1, 2, 0], [0, 1, 1, 0], [2, 1, 2, 0]]
    forget = Answers(sure(ours), labels, torch.stack([sure(each) for each in theirs]))
    found = retrain_agreement.run(evidence(forget, forget))
    assert found["value"] == pytest.approx((3 + 2 + 2) / 12)
    assert found["jensen_shannon"] == pytest.approx(5 / 12)  # of sure answers: 0 or 1
    missed = np.corrcoef([0, 0, 0, 1], [1 / 3, 0, 1 / 3, 1])[0, 1]
    assert found["miss_correlation"] == pytest.approx(missed)
    # of the pairs of references two agree on three of four images, and one on two
    assert found["references"] == pytest.approx([3 / 4, 5 / 8, 5 / 8])
    assert found["ceiling"]["value"] == pytest.approx(2 / 3)
    assert found["ceiling"]["jensen_shannon"] == pytest.approx(1 / 3)
