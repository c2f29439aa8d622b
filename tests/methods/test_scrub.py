"""SCRUB: away from the teacher on the forget set, with it on the retain set."""

from pathlib import Path

import pytest
import torch
from formulas import at_step
from small_classifiers import SMALL, assert_close, classifying, network, trained_by_hand
from tiny import moved, train, weights
from torch import Tensor

from unrelearn.classification.classifying import Classifying
from unrelearn.classification.networks import Network
from unrelearn.methods.scrub import SCRUB


def scrub(max_share: float = 0.5) -> Classifying:
    settings = SMALL | {"max_steps": 6}
    return classifying(
        SCRUB(max_share=max_share, temperature=4.0, ce_weight=0.9, kl_weight=0.3, **settings)
    )


def distance(teacher: Tensor, student: Tensor) -> Tensor:
    """The sum over classes of q log(q / p) at temperature 4, in float64, times 16."""
    q, p = ((z.double() / 4).exp() for z in (teacher, student))
    q, p = q / q.sum(1, keepdim=True), p / p.sum(1, keepdim=True)
    return 16 * (q * (q / p).log()).sum(1).mean()


@pytest.mark.parametrize(
    ("max_share", "kinds"), [(0.5, "frfrrr"), (2 / 3, "frfrrr"), (1.0, "frfrfr"), (0.0, "rrrrrr")]
)
def test_training_is_that_of_pytorch_with_max_steps_where_they_should_be(
    max_share: float, kinds: str, tmp_path: Path
):
    module, teacher = scrub(max_share), network().eval().requires_grad_(False)
    data = {"f": ("forget", module.task.forget), "r": ("retain", module.task.retain)}

    def loss(student: Network, step: int) -> Tensor:
        batch = at_step(module, step, lambda: module.draw(*data[kinds[step]]))
        z = student(batch.x_0)
        d = distance(teacher(batch.x_0), z)
        if kinds[step] == "f":
            return -d.float()
        probability = z.softmax(1)[torch.arange(16), batch.labels]
        return (-0.9 * probability.log().mean() + 0.3 * d).float()

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)
    assert [next(iter(row.keys() - {"step"}))[0] for row in module.rows] == list(kinds)


def test_the_teacher_is_the_original_model_and_stays_so(tmp_path: Path):
    module = train(scrub(), tmp_path)
    assert not moved(network().state_dict(), module.method.teacher.state_dict())
    assert not module.method.teacher.training and module.network.training
    assert moved(network().state_dict(), weights(module))
