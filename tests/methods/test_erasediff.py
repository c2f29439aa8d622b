"""Both forms of EraseDiff: the bilevel problem as published, and the loss as released."""

import copy
from pathlib import Path

import pytest
import torch
from formulas import answer, flat_gradient, mean_squared_error, stepped, wanted, x_t
from makers import SMALL, erasediff_paper, erasediff_released
from tiny import denoising, new_task, train
from torch import Tensor

from unrelearn.config import explain
from unrelearn.diffusion.denoising import Denoising
from unrelearn.methods.erasediff_paper import EraseDiffPaper
from unrelearn.methods.erasediff_released import EraseDiffReleased


def uniform(module: Denoising) -> Tensor:
    """The target of this step, found from the gradient of the loss by the answer: 2 (answer - u) /
    n.
    """
    seen = []
    module.matching = lambda given, wanted: (
        seen.append(wanted) or Denoising.matching(module, given, wanted)
    )
    module.method.forget_loss(module, module.network)
    del module.matching
    return seen[0]


def by_hand(module: Denoising) -> dict[str, Tensor]:
    """Both gradients, the forget loss before and after the inner steps, and lambda, in double
    precision.
    """
    net = copy.deepcopy(module.network).eval()
    trained = [p for p in net.parameters() if p.requires_grad]
    forget, retain = (
        module.draw("forget", module.task.forget, label_dropout=0.0),
        module.draw("retain", module.task.retain),
    )
    aim = uniform(module)

    def forget_loss() -> Tensor:
        return ((answer(net, x_t(forget), forget.t, 7) - aim) ** 2).mean()

    g_r = flat_gradient(
        net,
        (
            (answer(net, x_t(retain), retain.t, retain.labels) - wanted(retain, "epsilon")) ** 2
        ).mean(),
    )
    before = forget_loss()
    g_f = flat_gradient(net, before)
    old = torch.cat([p.detach().flatten() for p in trained])
    first, second = torch.zeros_like(g_f), torch.zeros_like(g_f)
    for k in range(1, module.method.inner_steps + 1):  # Adam
        g = flat_gradient(net, forget_loss())
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        step = (
            module.method.inner_learning_rate
            * (first / (1 - 0.9**k))
            / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
        )
        with torch.no_grad():
            for p, part in zip(trained, step.split([p.numel() for p in trained]), strict=True):
                p -= part.float().view_as(p)
    after = forget_loss() if module.method.inner_steps else torch.tensor(0.0)
    moved_by = old - torch.cat([p.detach().flatten() for p in trained])
    rho = (
        min(1, max(0, (before - after).item() / (g_f @ moved_by.double()).item()))
        if module.method.inner_steps
        else 1.0
    )
    phi = module.method.eta * rho * (g_f @ g_f).item()
    against = g_r.norm() * g_f.norm() if module.method.coefficient == "cosine" else g_f @ g_f
    weight = max(0, (phi / (g_f @ g_f) - g_f @ g_r / against).item())
    return {
        "g_f": g_f,
        "g_r": g_r,
        "before": before.detach(),
        "after": after.detach(),
        "phi": phi,
        "rho": rho,
        "lambda": weight,
    }


@pytest.mark.parametrize("coefficient", ["inner_product", "cosine"])
@pytest.mark.parametrize("inner_steps", [0, 1, 3])
def test_erasediff_weighs_the_forget_loss_by_the_formula(coefficient: str, inner_steps: int):
    module = stepped(erasediff_paper(coefficient=coefficient, inner_steps=inner_steps, eta=3.0))
    hand = by_hand(module)
    weight, reference = module.method.bilevel(module)
    assert weight.item() == pytest.approx(hand["lambda"], rel=2e-3) and hand["lambda"] > 0.01
    assert reference.item() == pytest.approx(hand["after"].item(), rel=1e-4)
    assert inner_steps == 0 or (hand["after"] < hand["before"] and 0.1 < hand["rho"] < 0.999)
    losses = module.method.losses(module)
    assert losses["forget"].item() == pytest.approx(
        hand["lambda"] * (hand["before"] - hand["after"]).item(), rel=5e-3
    )
    total = flat_gradient(module.network, sum(losses.values()))
    torch.testing.assert_close(
        total, hand["g_r"] + hand["lambda"] * hand["g_f"], rtol=1e-2, atol=1e-4
    )
    if coefficient == "inner_product":
        assert total @ hand["g_f"] == pytest.approx(
            hand["phi"], rel=1e-2
        )  # the constraint, met with equality


def test_erasediff_leaves_the_retain_gradient_alone_where_it_forgets_anyway():
    module = stepped(erasediff_paper(eta=0.0))
    module.method.retain_loss = lambda t, net: (
        0.5 * module.method.forget_loss(t, net)
    )  # in full agreement
    assert module.method.bilevel(module)[0].item() == 0.0


def test_inner_steps_that_find_nothing_leave_no_pressure_but_that_of_opposed_gradients():
    module = stepped(erasediff_paper(eta=3.0, inner_learning_rate=1.0))  # far too large a step
    hand = by_hand(module)
    assert hand["after"] > hand["before"]
    assert module.method.bilevel(module)[0].item() == pytest.approx(
        max(0, (-hand["g_f"] @ hand["g_r"] / hand["g_f"].square().sum()).item())
    )


def test_a_small_inner_step_is_the_published_phi():
    def weight(steps: int) -> float:
        module = erasediff_paper(eta=3.0, inner_steps=steps, inner_learning_rate=1e-5)
        return module.method.bilevel(stepped(module))[0].item()

    assert weight(1) == pytest.approx(weight(0), rel=0.02)


def test_the_inner_steps_touch_neither_weights_nor_gradients_nor_moments_nor_mode(tmp_path: Path):
    def state(module: Denoising) -> list:
        moments = module.optimizers(use_pl_optimizer=False).state_dict()["state"]
        return [
            module.network.training,
            module.micro,
            *(p.detach().clone() for p in module.network.parameters()),
            *(None if p.grad is None else p.grad.clone() for p in module.network.parameters()),
            *(value.clone() for each in moments.values() for value in each.values()),
        ]

    class Watched(EraseDiffPaper):
        def bilevel(self, t: Denoising):
            before = state(t)
            found = super().bilevel(t)
            for a, b in zip(before, state(t), strict=True):
                assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
            seen.append(len(before))
            return found

    seen: list[int] = []
    task = new_task(dropout=0.3)
    module = denoising(
        Watched(
            **SMALL, eta=0.3, coefficient="inner_product", inner_steps=2, inner_learning_rate=1e-3
        ),
        task,
    )
    train(module, tmp_path)
    assert (
        len(seen) == 3 and seen[2] == seen[1] > seen[0]
    )  # from the second step on there are moments to be compared


def test_the_target_is_uniform_noise_that_is_new_in_each_step_and_shared_out_in_passes():
    module = erasediff_paper(batch_size=300)
    whole = uniform(module)
    assert whole.min() >= 0 and whole.max() < 1
    assert whole.mean().item() == pytest.approx(
        0.5, abs=0.01
    ) and whole.var().item() == pytest.approx(1 / 12, abs=0.003)
    module.accumulate, parts = 3, []
    for module.micro in range(3):
        parts.append(uniform(module))
    assert torch.equal(torch.cat(parts), whole)
    type(module).global_step = property(lambda self: 1)
    try:
        assert not torch.equal(uniform(module), parts[2])
    finally:
        del type(module).global_step


@pytest.mark.parametrize(("forget", "kind"), [((7,), "epsilon"), ((3, 7), "v_prediction")])
def test_the_released_loss_is_the_retain_loss_and_a_tenth_of_the_distance_to_a_retained_answer(
    forget, kind: str
):
    module = stepped(erasediff_released(new_task(forget, prediction_type=kind)))
    shown, other = (
        module.choose_one("pseudo label", module.task.retain_classes),
        module.draw("forget", module.task.forget, label_dropout=0.0),
    )
    net, x = module.network, x_t(other)
    matched = (
        (answer(net, x, other.t, other.labels) - answer(net, x, other.t, shown).detach())
        .square()
        .mean()
    )
    expected = {
        "forget": 0.1 * matched,
        "retain": mean_squared_error(module, module.draw("retain", module.task.retain), kind),
    }
    losses = module.method.losses(module)
    assert shown in module.task.retain_classes and losses.keys() == expected.keys() and matched > 0
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4)
        torch.testing.assert_close(
            flat_gradient(net, loss), flat_gradient(net, expected[name]), rtol=1e-3, atol=1e-6
        )


def test_the_released_pseudo_label_is_another_retained_class_in_each_step():
    class At(Denoising):
        global_step = 0

    module, seen = At(EraseDiffReleased(**SMALL, forget_weight=0.1), new_task((3, 7))), set()
    for module.global_step in range(40):
        seen.add(module.choose_one("pseudo label", module.task.retain_classes))
    assert seen == {0, 1, 2, 4, 5, 6, 8, 9}


def test_the_name_that_was_one_method_once_is_refused_with_the_two_it_is_now(compose):
    with pytest.raises(Exception) as error:
        compose("method=erasediff")
    (problem,) = explain(error.value, ["method=erasediff"])
    assert problem.startswith("method=erasediff: no such method; allowed: concept_ablation, ")
    assert "bad_teacher" not in problem  # of classifiers
    assert problem.endswith("Type method=erasediff_paper or method=erasediff_released")
