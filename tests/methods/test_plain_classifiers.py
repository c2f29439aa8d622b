"""The plainest methods of classifiers, and relearning, beside PyTorch's own loop."""

from pathlib import Path

import pytest
import torch
from formulas import at_step, gradients, images, same_set
from small_classifiers import SMALL, assert_close, classifying, learned, new_task, trained_by_hand
from tiny import train, weights
from torch import Tensor
from torch.nn import functional as F

from unrelearn.attacks.relearn import Relearn
from unrelearn.classification.classifying import Classifying, unit
from unrelearn.classification.epochs import epoch_indexes
from unrelearn.classification.networks import Network
from unrelearn.data import ImageSet
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.gradient_ascent import GradientAscent
from unrelearn.methods.neggrad_plus import NegGradPlus
from unrelearn.methods.random_label import RandomLabel


def drawn(data: ImageSet, step: int, *row: str) -> tuple[Tensor, Tensor]:
    """The 16 images of a step, in [0, 1], and their labels."""
    some = epoch_indexes((0, *row), len(data), 16 * step, 16)
    return unit(data.images[some]), data.labels[some]


def both(module: Classifying, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The images of both sets in a step, and the labels of each."""
    (lost, wrong), (kept, right) = (
        drawn(data, step, "unlearn", name)
        for name, data in (("forget", module.task.forget), ("retain", module.task.retain))
    )
    return torch.cat([lost, kept]), wrong, right


def test_finetuning_is_ordinary_training_on_the_retain_set(tmp_path: Path):
    module = classifying(Finetune(**SMALL))

    def loss(network: Network, step: int) -> Tensor:
        x, labels = drawn(module.task.retain, step, "unlearn", "retain")
        return F.cross_entropy(network(x), labels)

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)


def test_gradient_ascent_climbs_on_one_set_and_descends_on_the_other(tmp_path: Path):
    module = classifying(GradientAscent(forget_weight=0.3, **SMALL))

    def loss(network: Network, step: int) -> Tensor:
        x, lost, kept = both(module, step)
        z = network(x)
        return F.cross_entropy(z[16:], kept) - 0.3 * F.cross_entropy(z[:16], lost)

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)
    assert module.rows[0]["forget"] < 0 < module.rows[0]["retain"]


def test_random_labels_are_learned_beside_the_retain_set(tmp_path: Path):
    module = classifying(RandomLabel(retain_weight=0.7, **SMALL))
    given = [wrong_labels(module, both(module, step)[1], step) for step in range(4)]

    def loss(network: Network, step: int) -> Tensor:
        x, _, kept = both(module, step)
        z = network(x)
        return F.cross_entropy(z[:16], given[step]) + 0.7 * F.cross_entropy(z[16:], kept)

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)


def wrong_labels(module: Classifying, labels: Tensor, step: int) -> Tensor:
    batch = at_step(module, step, lambda: module.draw("forget", module.task.forget))
    assert torch.equal(batch.labels, labels)
    return at_step(module, step, lambda: module.other_labels(batch))


def test_a_wrong_label_is_any_other_alike_and_drawn_anew_in_every_step():
    module = classifying(RandomLabel(retain_weight=1.0, **SMALL | {"batch_size": 40}))
    other_seed = classifying(module.method, new_task(seed=1))
    steps = range(200)
    true = [at_step(module, s, lambda: module.draw("forget", module.task.forget)) for s in steps]
    wrong = [at_step(module, s, lambda s=s: module.other_labels(true[s])) for s in steps]
    shifts = torch.stack([(w - t.labels) % 10 for w, t in zip(wrong, true, strict=True)])
    counts = shifts.flatten().bincount(minlength=10)  # 8000 draws
    assert counts[0] == 0 and counts[1:].min() > 740 and counts.max() < 1040  # 889 and 5 deviations
    assert len(shifts.unique(dim=0)) == 200
    assert all(len(shifts[:, place].unique()) == 9 for place in range(40))
    again = at_step(module, 3, lambda: module.other_labels(true[3]))
    assert torch.equal(again, wrong[3])
    assert not torch.equal(at_step(other_seed, 3, lambda: other_seed.other_labels(true[3])), again)


@pytest.mark.parametrize(
    ("method", "term"),
    [(NegGradPlus(retain_share=0.0, **SMALL), None), (GradientAscent(**SMALL), "forget")],
    ids=["neggrad_plus", "gradient_ascent"],
)
def test_the_ascent_is_minus_the_gradient_of_finetuning_on_the_same_images(method, term):
    lost = new_task().forget
    method.batch_size = len(lost)  # all of them, in whatever order
    up = classifying(method, new_task(network=learned().eval()))
    down = classifying(
        Finetune(**SMALL | {"batch_size": len(lost)}),
        new_task(network=learned().eval(), retain=lost),
    )
    terms, (falling,) = method.losses(up), down.method.losses(down).values()
    rising = terms[term] if term else terms["forget"] + terms["retain"]
    expected = -gradients(down, falling)
    torch.testing.assert_close(gradients(up, rising), expected, rtol=1e-3, atol=1e-6)
    assert expected.norm() > 0.1


@pytest.mark.parametrize("fraction", [1.0, 0.25])
def test_relearning_is_ordinary_training_on_what_the_attacker_holds(
    fraction: float, tmp_path: Path
):
    attack = Relearn(budgets=[0, 2, 4], batch_size=16, learning_rate=0.05, retain_fraction=fraction)
    module = classifying(attack, new_task(network=learned()))
    held = attack.held

    def loss(network: Network, step: int) -> Tensor:
        x, labels = drawn(held, step, "attack", "held")
        return F.cross_entropy(network(x), labels)

    expected = trained_by_hand(module, loss)
    assert_close(weights(train(module, tmp_path)), expected)
    assert len(held) == 260 * fraction and images(held) <= images(module.task.retain)
    assert same_set(held, module.task.retain) == (fraction == 1)
