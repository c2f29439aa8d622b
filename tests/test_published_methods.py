"""esd, concept_ablation, both erasediffs, restricted_gradient and munba against their formulas,
written out again here.
"""

import copy
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from test_methods import mean_squared_error, same_set, wanted, x_t
from test_passes import LIMIT, assert_close
from test_resume import train_in_two_parts
from tiny import SCHEDULE, UNET, from_yaml, moved, network, new_task, train, weights
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unrelearn import cost
from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.dimra_aux import DiMRAAux
from unrelearn.attacks.embedding_inversion import EmbeddingInversion
from unrelearn.attacks.lora import LoRA
from unrelearn.config import explain
from unrelearn.data import ImageSet
from unrelearn.diffusion.maths import alphas_cumprod, target, x_0_and_noise
from unrelearn.methods.concept_ablation import ConceptAblation
from unrelearn.methods.dimum_cover import DiMUMCover
from unrelearn.methods.erasediff_paper import EraseDiffPaper
from unrelearn.methods.erasediff_released import EraseDiffReleased
from unrelearn.methods.esd import ESD
from unrelearn.methods.munba import MUNBa
from unrelearn.methods.restricted_gradient import RestrictedGradient
from unrelearn.module import DiffusionModule, Relearning

NAMES = [
    "esd",
    "concept_ablation",
    "erasediff_paper",
    "erasediff_released",
    "restricted_gradient",
    "munba",
]
SMALL = dict(max_steps=3, batch_size=12, learning_rate=1e-3)
KINDS = ["epsilon", "v_prediction"]


def esd(task=None, **changes) -> ESD:
    constants = dict(negative_guidance=1.5, start_guidance=3.0, num_inference_steps=4)
    return ESD(task or new_task(), **{**SMALL, **constants, **changes})


def concept_ablation(task=None, **changes) -> ConceptAblation:
    return ConceptAblation(
        task or new_task(), **{**SMALL, "anchor": "another_class", "retain_weight": 2.0, **changes}
    )


def erasediff_paper(task=None, **changes) -> EraseDiffPaper:
    constants = dict(eta=0.3, coefficient="inner_product", inner_steps=2, inner_learning_rate=1e-3)
    return EraseDiffPaper(task or new_task(), **{**SMALL, **constants, **changes})


def erasediff_released(task=None, **changes) -> EraseDiffReleased:
    return EraseDiffReleased(
        task or new_task(), **{**SMALL, "label_dropout": 0.0, "forget_weight": 0.1, **changes}
    )


def munba(task=None, **changes) -> MUNBa:
    return MUNBa(task or new_task(), **{**SMALL, **changes})


def cover(task=None, **changes) -> DiMUMCover:
    return DiMUMCover(
        task or new_task(),
        **{**SMALL, "memory": "another_class", "forgotten_share": 0.5, **changes},
    )


def attack_of(kind: type, **constants) -> Relearning:
    return kind(
        new_task(),
        budgets=[SMALL["max_steps"]],
        batch_size=SMALL["batch_size"],
        learning_rate=1e-3,
        **constants,
    )


def lora() -> LoRA:
    return attack_of(LoRA, rank=2, num_images=3, train_class_embedding=True)


def embedding_inversion() -> EmbeddingInversion:
    return attack_of(EmbeddingInversion, num_images=3)


def dimra_relative() -> DiMRA:
    return DiMRA(
        new_task(),
        budgets=[SMALL["max_steps"]],
        batch_size=SMALL["batch_size"],
        learning_rate=1e-2,
        optimizer="relative",
        lr_schedule="cosine",
    )


def dimra_aux() -> DiMRAAux:
    return attack_of(DiMRAAux, source="unlearned", images_per_class=4, num_inference_steps=3)


def answer(net, noisy: Tensor, t: Tensor, label: int | Tensor) -> Tensor:
    return net(
        noisy, t, class_labels=torch.full_like(t, label) if isinstance(label, int) else label
    ).sample


def stepped(module: DiffusionModule) -> DiffusionModule:
    """The module, prepared, with weights that are no longer the original ones."""
    module.prepare()
    with torch.no_grad():
        for p, other in zip(module.denoiser.parameters(), network(5).parameters(), strict=True):
            p += 0.2 * other
    return module


def flat_gradient(net, loss: Tensor) -> Tensor:
    found = torch.autograd.grad(
        loss, [p for p in net.parameters() if p.requires_grad], retain_graph=True
    )
    return torch.cat([g.flatten() for g in found]).double()


# -------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", NAMES)
def test_only_the_blocks_that_may_move_do_and_the_rest_stays_to_the_bit(
    name: str, compose, tmp_path: Path
):
    module = from_yaml(compose, "method", name, "+method.blocks=[up_blocks,conv_out]", steps=2)(
        new_task()
    )
    before = weights(module)
    train(module, tmp_path)
    assert moved(before, weights(module)) == {
        n for n in before if n.startswith(("up_blocks", "conv_out"))
    }


@pytest.mark.parametrize(
    ("name", "tolerance"), [(n, 0.25 if n == "esd" else 0.1) for n in [*NAMES, "dimum_cover"]]
)
def test_a_step_costs_the_passes_that_are_declared(
    name: str, tolerance: float, compose, tmp_path: Path
):
    """A backward pass is a little less than twice the forward one; ESD's images have ways of random
    length to go.
    """
    module = from_yaml(compose, "method", name, steps=1, batch_size=32)(new_task())
    module.prepare()
    module.prepare = lambda: None
    forward, _ = cost.forward_cost(image_size=8, channels=1, num_classes=10, unet=UNET)
    with FlopCounterMode(display=False) as counter:
        train(module, tmp_path)
    trained, only_forward = module.passes
    assert counter.get_total_flops() / (
        32 * forward * (3 * trained + only_forward)
    ) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_layout_changes_no_step(name: str, compose, tmp_path: Path):
    make = from_yaml(compose, "method", name, "method.learning_rate=1e-4")
    rows, other = (
        train(make(new_task()), tmp_path / str(last), channels_last=last).rows
        for last in (False, True)
    )
    for row, expected in zip(rows, other, strict=True):
        assert row == pytest.approx(expected, rel=1e-3)


def test_several_classes_are_forgotten_at_once(compose, tmp_path: Path):
    for name in NAMES:
        module = train(
            from_yaml(compose, "method", name, steps=2)(new_task((3, 7))), tmp_path / name
        )
        assert len(module.rows) == 2 and module.diverged_at is None


IN_PROCESSES = (
    esd,
    concept_ablation,
    erasediff_paper,
    erasediff_released,
    munba,
    cover,
    lora,
    embedding_inversion,
    dimra_aux,
    dimra_relative,
)
SCRIPT = """
import sys
from pathlib import Path
import torch
import test_published_methods as made
from tiny import train
from unrelearn import distributed, launch

launch.processes({"threads": 1, "devices": 1, "accelerator": "cpu"})
for make in made.IN_PROCESSES:
    module = train(make(), Path(sys.argv[1]) / make.__name__)
    name = f"{make.__name__}-{distributed.rank()}.pt"
    torch.save((module.state_dict(), module.rows), Path(sys.argv[1]) / name)
launch.leave()
"""


@pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch has no torch.distributed"
)
def test_two_processes_train_the_models_that_one_trains(tmp_path: Path):
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            tmp_path / "script.py",
            tmp_path,
        ],
        text=True,
        capture_output=True,
        timeout=900,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    for make in IN_PROCESSES:
        (state, rows), (other, other_rows) = (
            torch.load(tmp_path / f"{make.__name__}-{rank}.pt") for rank in (0, 1)
        )
        alone = train(make(), tmp_path / f"alone-{make.__name__}")
        assert rows == other_rows and all(
            torch.equal(value, other[name]) for name, value in state.items()
        )
        for row, expected in zip(rows, alone.rows, strict=True):
            assert row == pytest.approx(expected, rel=1e-3)
        for (
            name,
            value,
        ) in alone.state_dict().items():  # first gradients are small in places, which Adam undoes
            torch.testing.assert_close(state[name], value, rtol=0, atol=3e-4)


# ----------------------------------------------------------------------------------------- teachers


@pytest.mark.parametrize("make", [esd, concept_ablation])
def test_the_teacher_is_the_original_model_to_the_bit_and_stays_so(make, tmp_path: Path):
    module = make(new_task(dropout=0.3))
    original = weights(module)
    train(module, tmp_path)
    assert not moved(original, module.teacher.network.state_dict()) and moved(
        original, weights(module)
    )
    assert not module.teacher.network.training and not any(
        p.requires_grad for p in module.teacher.network.parameters()
    )
    assert not any("teacher" in name for name in module.state_dict())  # nor is it saved


@pytest.mark.parametrize("make", [esd, concept_ablation])
def test_the_teacher_of_a_resumed_run_is_the_original_model(make, tmp_path: Path):
    whole = train(make(max_steps=9), tmp_path / "whole")
    parts = train_in_two_parts(lambda: make(max_steps=9), tmp_path / "parts", 8)
    assert not moved(whole.teacher.network.state_dict(), parts.teacher.network.state_dict())
    assert not moved(weights(whole), weights(parts)) and whole.rows == parts.rows


@pytest.mark.parametrize(
    "make",
    [
        esd,
        lambda task: concept_ablation(task, anchor="generated", anchor_size=4, retain_weight=0.0),
    ],
)
def test_no_real_image_is_read_where_none_is_needed(make, tmp_path: Path):
    seen = []
    for name in ("real", "blank"):
        task = new_task()
        if name == "blank":
            task = replace(
                task,
                **{
                    part: ImageSet(torch.zeros_like(data.images), data.labels)
                    for part, data in (("forget", task.forget), ("retain", task.retain))
                },
            )
        seen.append(weights(train(make(task), tmp_path / name)))
    assert not moved(*seen)


# ---------------------------------------------------------------------------------------------- esd


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_what_an_answer_says_of_x_t_is_what_the_target_was_made_from(kind: str):
    g = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn((2, 5, 1, 4, 4), generator=g)
    t, products = torch.tensor([0, 1, 300, 700, 999]), alphas_cumprod()
    scale = products[t].view(-1, 1, 1, 1)
    noisy = scale.sqrt() * x_0 + (1 - scale).sqrt() * noise
    found = x_0_and_noise(target(x_0, noise, t, products, kind), noisy, t, products, kind)
    torch.testing.assert_close(found[1], noise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(
        found[0][:4], x_0[:4], rtol=1e-3, atol=1e-3
    )  # at T the signal is lost in rounding


@pytest.mark.parametrize("kind", KINDS)
def test_esd_denoises_each_image_to_its_own_time_as_diffusers_does_one_by_one(kind: str):
    module = stepped(esd(new_task(prediction_type=kind), num_inference_steps=5, batch_size=30))
    batch = module.draw("trajectory", module.blank, label_dropout=0.0)
    found, net = module.partly_denoised(batch), module.denoiser
    scheduler = DDIMScheduler(**SCHEDULE | {"prediction_type": kind}, clip_sample=True)
    scheduler.set_timesteps(5)
    lengths = []
    for noise, t, image in zip(batch.noise, batch.t.tolist(), found, strict=True):
        x, way = noise[None], range(t + (999 - t) // 200 * 200, t, -200)
        for now in way:
            with torch.no_grad():
                conditional, unconditional = (
                    answer(net, x, torch.tensor([now]), label) for label in (7, 10)
                )
                output = unconditional + 3.0 * (conditional - unconditional)
            x = scheduler.step(output, now, x, eta=0.0).prev_sample
        torch.testing.assert_close(image, x[0], rtol=1e-3, atol=1e-3)
        lengths.append(len(way))
    assert {0, 4} <= set(lengths) <= set(range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_esd_matches_the_original_guided_away_from_the_class(kind: str):
    module = stepped(esd(new_task((3, 7), prediction_type=kind)))
    original = new_task().denoiser
    batch = module.draw("trajectory", module.blank, label_dropout=0.0)
    noisy = module.partly_denoised(batch)
    assert set(batch.labels.tolist()) == {3, 7}
    e_c, e_0 = (answer(original, noisy, batch.t, label).detach() for label in (batch.labels, 10))
    expected = (
        (answer(module.denoiser, noisy, batch.t, batch.labels) - (e_0 - 1.5 * (e_c - e_0))) ** 2
    ).mean()
    loss = module.losses()
    assert loss.keys() == {"forget"} and loss["forget"].item() == pytest.approx(
        expected.item(), rel=1e-4
    )
    torch.testing.assert_close(
        flat_gradient(module.denoiser, loss["forget"]),
        flat_gradient(module.denoiser, expected),
        rtol=1e-3,
        atol=1e-6,
    )


def test_esd_draws_x_t_without_dropout_and_trains_with_it():
    module = stepped(esd(new_task(dropout=0.5)))
    module.denoiser.train()
    batch = module.draw("trajectory", module.blank, label_dropout=0.0)
    assert (
        torch.equal(module.partly_denoised(batch), module.partly_denoised(batch))
        and module.denoiser.training
    )
    assert module.losses()["forget"].item() != module.losses()["forget"].item()


# --------------------------------------------------------------------------------- concept ablation


@pytest.mark.parametrize(("anchor_class", "anchors"), [(None, {3: 4, 7: 8}), (2, {3: 2, 7: 2})])
@pytest.mark.parametrize("kind", KINDS)
def test_concept_ablation_matches_the_original_under_the_anchor_class_on_its_images(
    kind: str, anchor_class, anchors: dict
):
    module = stepped(
        concept_ablation(new_task((3, 7), prediction_type=kind), anchor_class=anchor_class)
    )
    for c, other in anchors.items():
        assert same_set(module.anchors.of_classes([c]), module.task.retain.of_classes([other]))
    batch = module.draw("anchor", module.anchors, label_dropout=0.0)
    assert set(batch.labels.tolist()) == {3, 7}
    other = torch.tensor([anchors[int(c)] for c in batch.labels])
    teacher = answer(new_task().denoiser, x_t(batch), batch.t, other).detach()
    expected = ((answer(module.denoiser, x_t(batch), batch.t, batch.labels) - teacher) ** 2).mean()
    losses = module.losses()
    assert losses["forget"].item() == pytest.approx(expected.item(), rel=1e-4)
    kept = 2.0 * mean_squared_error(module, module.draw("retain", module.task.retain), kind)
    assert losses["retain"].item() == pytest.approx(kept.item(), rel=1e-4)
    torch.testing.assert_close(
        flat_gradient(module.denoiser, sum(losses.values())),
        flat_gradient(module.denoiser, expected + kept),
        rtol=1e-3,
        atol=1e-5,
    )


def test_both_terms_of_concept_ablation_are_means_also_where_losses_are_sums():
    plain, summed = (
        stepped(concept_ablation(replace(new_task(), loss_reduction=kind))).losses()
        for kind in ("mean", "sum")
    )
    assert {k: v.item() for k, v in summed.items()} == pytest.approx(
        {k: v.item() for k, v in plain.items()}, rel=1e-5
    )


def test_generated_anchors_are_drawn_by_the_original_model():
    module = concept_ablation(anchor="generated", anchor_size=3, retain_weight=0.0)
    module.prepare()
    assert module.anchors.images.shape == (3, 1, 8, 8) and module.anchors.labels.tolist() == [7] * 3
    assert module.losses().keys() == {"forget"}


# ---------------------------------------------------------------------------------- erasediff_paper


def uniform(module: EraseDiffPaper) -> Tensor:
    """The target of this step, found from the gradient of the loss by the answer: 2 (answer - u) /
    n.
    """
    seen = []
    module.matching_loss = lambda given, wanted: (
        seen.append(wanted) or DiffusionModule.matching_loss(module, given, wanted)
    )
    module.forget_loss(module.denoiser)
    del module.matching_loss
    return seen[0]


def by_hand(module: EraseDiffPaper) -> dict[str, Tensor]:
    """Both gradients, the forget loss before and after the inner steps, and lambda, in double
    precision.
    """
    net = copy.deepcopy(module.denoiser).eval()
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
    for k in range(1, module.inner_steps + 1):  # Adam
        g = flat_gradient(net, forget_loss())
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g * g
        step = (
            module.inner_learning_rate
            * (first / (1 - 0.9**k))
            / ((second / (1 - 0.999**k)).sqrt() + 1e-8)
        )
        with torch.no_grad():
            for p, part in zip(trained, step.split([p.numel() for p in trained]), strict=True):
                p -= part.float().view_as(p)
    after = forget_loss() if module.inner_steps else torch.tensor(0.0)
    moved_by = old - torch.cat([p.detach().flatten() for p in trained])
    rho = (
        min(1, max(0, (before - after).item() / (g_f @ moved_by.double()).item()))
        if module.inner_steps
        else 1.0
    )
    phi = module.eta * rho * (g_f @ g_f).item()
    against = g_r.norm() * g_f.norm() if module.coefficient == "cosine" else g_f @ g_f
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
    weight, reference = module.bilevel()
    assert weight.item() == pytest.approx(hand["lambda"], rel=2e-3) and hand["lambda"] > 0.01
    assert reference.item() == pytest.approx(hand["after"].item(), rel=1e-4)
    assert inner_steps == 0 or (hand["after"] < hand["before"] and 0.1 < hand["rho"] < 0.999)
    losses = module.losses()
    assert losses["forget"].item() == pytest.approx(
        hand["lambda"] * (hand["before"] - hand["after"]).item(), rel=5e-3
    )
    total = flat_gradient(module.denoiser, sum(losses.values()))
    torch.testing.assert_close(
        total, hand["g_r"] + hand["lambda"] * hand["g_f"], rtol=1e-2, atol=1e-4
    )
    if coefficient == "inner_product":
        assert total @ hand["g_f"] == pytest.approx(
            hand["phi"], rel=1e-2
        )  # the constraint, met with equality


def test_erasediff_leaves_the_retain_gradient_alone_where_it_forgets_anyway():
    module = stepped(erasediff_paper(eta=0.0))
    module.retain_loss = lambda net: 0.5 * module.forget_loss(net)  # in full agreement
    assert module.bilevel()[0].item() == 0.0


def test_inner_steps_that_find_nothing_leave_no_pressure_but_that_of_opposed_gradients():
    module = stepped(erasediff_paper(eta=3.0, inner_learning_rate=1.0))  # far too large a step
    hand = by_hand(module)
    assert hand["after"] > hand["before"]
    assert module.bilevel()[0].item() == pytest.approx(
        max(0, (-hand["g_f"] @ hand["g_r"] / hand["g_f"].square().sum()).item())
    )


def test_a_small_inner_step_is_the_published_phi():
    zero, small = (
        stepped(erasediff_paper(eta=3.0, inner_steps=k, inner_learning_rate=1e-5))
        .bilevel()[0]
        .item()
        for k in (0, 1)
    )
    assert small == pytest.approx(zero, rel=0.02)


def test_the_inner_steps_touch_neither_weights_nor_gradients_nor_moments_nor_mode(tmp_path: Path):
    def state(module: EraseDiffPaper) -> list:
        moments = module.optimizers(use_pl_optimizer=False).state_dict()["state"]
        return [
            module.denoiser.training,
            module.micro,
            *(p.detach().clone() for p in module.denoiser.parameters()),
            *(None if p.grad is None else p.grad.clone() for p in module.denoiser.parameters()),
            *(value.clone() for each in moments.values() for value in each.values()),
        ]

    class Watched(EraseDiffPaper):
        def bilevel(self):
            before = state(self)
            found = super().bilevel()
            for a, b in zip(before, state(self), strict=True):
                assert torch.equal(a, b) if isinstance(a, Tensor) else a == b
            seen.append(len(before))
            return found

    seen: list[int] = []
    task = new_task(dropout=0.3)
    module = Watched(
        task, **SMALL, eta=0.3, coefficient="inner_product", inner_steps=2, inner_learning_rate=1e-3
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
        module.pseudo_label(),
        module.draw("forget", module.task.forget, label_dropout=0.0),
    )
    net, x = module.denoiser, x_t(other)
    matched = (
        (answer(net, x, other.t, other.labels) - answer(net, x, other.t, shown).detach())
        .square()
        .mean()
    )
    expected = {
        "forget": 0.1 * matched,
        "retain": mean_squared_error(module, module.draw("retain", module.task.retain), kind),
    }
    losses = module.losses()
    assert shown in module.task.retain_classes and losses.keys() == expected.keys() and matched > 0
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-4)
        torch.testing.assert_close(
            flat_gradient(net, loss), flat_gradient(net, expected[name]), rtol=1e-3, atol=1e-6
        )


def test_the_released_pseudo_label_is_another_retained_class_in_each_step():
    class At(EraseDiffReleased):
        global_step = 0

    module, seen = At(new_task((3, 7)), **SMALL, forget_weight=0.1), set()
    for module.global_step in range(40):
        seen.add(module.pseudo_label())
    assert seen == {0, 1, 2, 4, 5, 6, 8, 9}


def test_the_name_that_was_one_method_once_is_refused_with_the_two_it_is_now(compose):
    with pytest.raises(Exception) as error:
        compose("method=erasediff")
    (problem,) = explain(error.value, ["method=erasediff"])
    assert problem.startswith("method=erasediff: no such method; allowed: concept_ablation, ")
    assert problem.endswith("Type method=erasediff_paper or method=erasediff_released")


@pytest.mark.parametrize("make", [esd, concept_ablation, erasediff_paper, erasediff_released])
def test_a_step_in_several_passes_is_the_step_in_one(make, tmp_path: Path):
    whole = train(make(), tmp_path / "whole")
    for passes in (2, 3):
        parts = train(make(), tmp_path / str(passes), batch_size_per_device=LIMIT[passes])
        assert_close(parts, whole, tolerance=3e-4)


# -------------------------------------------------------------------- restricted gradient and MUNBa


@pytest.mark.parametrize("kind", KINDS)
def test_restricted_gradient_ascends_only_where_the_error_is_below_the_truncation(kind: str):
    module = RestrictedGradient(
        new_task(prediction_type=kind), truncation=0.2, retain_weight=5.0, **SMALL
    )
    forget = module.draw("forget", module.task.forget, label_dropout=0.0)
    squared = (answer(module.denoiser, x_t(forget), forget.t, 7) - wanted(forget, kind)) ** 2
    assert 0.1 < (squared < 0.2).float().mean() < 0.9
    ascent = -torch.where(squared < 0.2, squared, torch.tensor(0.2)).mean()
    kept = 5.0 * mean_squared_error(module, module.draw("retain", module.task.retain), kind)
    losses = module.losses()
    for name, expected in (("forget", ascent), ("retain", kept)):
        assert losses[name].item() == pytest.approx(expected.item(), rel=1e-4)
        torch.testing.assert_close(
            flat_gradient(module.denoiser, losses[name]),
            flat_gradient(module.denoiser, expected),
            rtol=1e-3,
            atol=1e-5,
        )


def step_of(module: DiffusionModule, folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of the first step, and those of the forget and the retain loss at the same
    weights and batch.
    """
    parts = [
        flat_gradient(module.denoiser, loss)
        for loss in (module.losses()[name] for name in ("forget", "retain"))
    ]
    seen = []
    module.configure_gradient_clipping = lambda *a, **k: seen.append(
        torch.cat([p.grad.flatten() for _, p in module.trained])
    )
    train(module, folder)
    return seen[0].double(), *parts


def test_munba_takes_the_step_of_the_released_closed_form(compose, tmp_path: Path):
    step, g_f, g_r = step_of(from_yaml(compose, "method", "munba", steps=1)(new_task()), tmp_path)
    rr, rf, ff = g_r @ g_r, g_r @ g_f, g_f @ g_f
    a_r = ((rr * ff - rf * (rr * ff).sqrt()) / (rr * rr * ff - rr * rf * rf)).sqrt()
    a_f = (1 - rr * a_r * a_r) / (rf * a_r)
    assert a_r > 0 and a_f > 0
    torch.testing.assert_close(step, a_r * g_r + a_f * g_f, rtol=1e-2, atol=1e-4)


def test_restricted_gradient_takes_the_step_of_two_projections(compose, tmp_path: Path):
    step, g_f, g_r = step_of(
        from_yaml(compose, "method", "restricted_gradient", steps=1)(new_task()), tmp_path
    )
    expected = g_f - (g_f @ g_r) / (g_r @ g_r) * g_r + g_r - (g_f @ g_r) / (g_f @ g_f) * g_f
    torch.testing.assert_close(step, expected, rtol=1e-2, atol=1e-4)
    assert step @ g_f >= 0 and step @ g_r >= 0


def test_the_weights_of_munbas_losses_do_not_matter(tmp_path: Path):
    class Weighted(MUNBa):
        def losses(self) -> dict[str, Tensor]:
            losses = super().losses()
            return {"forget": 0.01 * losses["forget"], "retain": 30 * losses["retain"]}

    plain, weighted = (
        train(kind(new_task(), **SMALL), tmp_path / kind.__name__) for kind in (MUNBa, Weighted)
    )
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(weighted.state_dict()[name], value, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [MUNBa, RestrictedGradient])
def test_how_gradients_are_combined_may_be_chosen(kind: type, tmp_path: Path):
    constants = {} if kind is MUNBa else {"truncation": 0.4, "retain_weight": 5.0}
    assert (
        kind(new_task(), **SMALL, **constants).combine
        == {MUNBa: "bargaining", RestrictedGradient: "projection"}[kind]
    )
    assert kind(new_task(), **SMALL, **constants, combine="sum").combine == "sum"
