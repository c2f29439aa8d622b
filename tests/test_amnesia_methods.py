"""Selective Amnesia, SISS, SFR-on and Scissorhands: one step of each against its formula written
out again here.
"""

import math
import socket
import sys
from pathlib import Path

import pytest
import tiny
import torch
from test_ddp import finish, started
from test_gradients import _losses_of_step_zero
from test_methods import abar, gradients, mean_squared_error, x_t
from test_resume import assert_same, train_in_two_parts
from tiny import UNET, from_yaml, moved, network, new_task, train, weights
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unrelearn import cost, distributed, launch
from unrelearn.data import ImageSet
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING, reinitialise
from unrelearn.diffusion.sampling import sample
from unrelearn.errors import UsageError
from unrelearn.gradients import projection
from unrelearn.methods.scissorhands import Scissorhands
from unrelearn.methods.selective_amnesia import SelectiveAmnesia
from unrelearn.methods.sfron import SFRon
from unrelearn.methods.siss import SISS, difference
from unrelearn.module import DiffusionModule
from unrelearn.randomness import generator_for

NAMES = ["selective_amnesia", "siss", "sfron", "scissorhands"]
SMALL = dict(max_steps=3, batch_size=8, learning_rate=1e-3)


def amnesia(task=None, **changes) -> SelectiveAmnesia:
    return SelectiveAmnesia(
        task or new_task(),
        **{
            **SMALL,
            **dict(
                replay_weight=1.0,
                elastic_weight=10.0,
                replay_share=0.25,
                replay_guidance_scale=1.0,
                fisher_samples=10,
                label_dropout=0.0,
            ),
            **changes,
        },
    )


def siss(task=None, **changes) -> SISS:
    return SISS(task or new_task(), **{**SMALL, **dict(mixture=0.5, forget_share=0.1), **changes})


def sfron(task=None, **changes) -> SFRon:
    return SFRon(
        task or new_task(),
        **{
            **SMALL,
            **dict(forget_weight=10.0, loss_power=0.5, fisher_ratio=1.0, fisher_samples=10),
            **changes,
        },
    )


def scissorhands(task=None, **changes) -> Scissorhands:
    return Scissorhands(
        task or new_task(),
        **{**SMALL, **dict(forget_weight=0.1, trim_share=1e-3, trim_batches=2), **changes},
    )


MAKE = [amnesia, siss, sfron, scissorhands]


def at_step(module: DiffusionModule, step: int, action):
    """action() as it comes out in that step."""
    type(module).global_step = property(lambda self: step)
    try:
        return action()
    finally:
        del type(module).global_step


def first_gradient(module: DiffusionModule, folder: Path) -> Tensor:
    """Of the first step, as it comes to the optimiser before clipping."""
    seen = []
    module.configure_gradient_clipping = lambda *_, **__: seen.append(
        torch.cat([p.grad.flatten() for p in module.denoiser.parameters() if p.requires_grad])
    )
    train(module, folder)
    return seen[0]


# -------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", NAMES)
def test_a_step_costs_what_torch_counts_in_it(name: str, compose):
    module = from_yaml(compose, "method", name, batch_size=8)(new_task())
    module.prepare()
    module.trained = [(n, p) for n, p in module.denoiser.named_parameters() if p.requires_grad]
    forward, _ = cost.forward_cost(image_size=8, channels=1, num_classes=10, unet=UNET)
    with FlopCounterMode(display=False) as counter:
        module.backward(module.training_step(None, 0))
    trained, only_forward = module.passes
    assert 0.93 < counter.get_total_flops() / (8 * forward * (3 * trained + only_forward)) <= 1


@pytest.mark.parametrize("make", MAKE)
def test_frozen_blocks_stay_as_they_were_to_the_bit(make, tmp_path: Path):
    module = make(blocks=["up_blocks"])
    before = weights(module)
    assert {name.split(".")[0] for name in moved(before, weights(train(module, tmp_path)))} == {
        "up_blocks"
    }


@pytest.mark.parametrize("make", [amnesia, siss, scissorhands])
def test_weights_outside_a_mask_stay_as_they_were_to_the_bit(make, tmp_path: Path):
    module = make(saliency_fraction=0.3)
    before = weights(module)
    train(module, tmp_path)
    for name, value in weights(module).items():
        assert not (before[name] != value)[
            ~module.gradient_mask.get(name, torch.zeros_like(value, dtype=torch.bool))
        ].any(), name


@pytest.mark.parametrize("make", MAKE)
def test_a_stopped_run_ends_with_the_same_bits(make, tmp_path: Path):
    def new() -> DiffusionModule:
        return make(new_task(dropout=0.1), max_steps=7, learning_rate=1e-2)

    whole, parts = train(new(), tmp_path / "whole"), train_in_two_parts(new, tmp_path / "parts", 5)
    assert_same(whole, parts)
    if make is amnesia:  # what is held on to and replayed is that of the original model
        assert torch.equal(whole.replay.images, parts.replay.images)
        for (_, *of_whole), (_, *of_parts) in zip(whole.anchors, parts.anchors, strict=True):
            assert all(map(torch.equal, of_whole, of_parts))
    if make is sfron:
        assert not moved(whole.forget_mask, parts.forget_mask)


@pytest.mark.parametrize("make", MAKE)
def test_losses_that_are_sums_weigh_each_other_as_means_do(make):
    task, module = new_task(), make()
    task.loss_reduction = "sum"
    in_sums = make(task)
    for m in (module, in_sums):
        m.prepare()
        with torch.no_grad():
            for p in m.denoiser.parameters():
                p += 1e-3  # away from where nothing pulls back
    means, sums = module.losses(), in_sums.losses()
    assert {name: value.item() for name, value in sums.items()} == pytest.approx(
        {name: 64 * value.item() for name, value in means.items()}, rel=1e-4
    )


@pytest.mark.parametrize("make", [siss, sfron])
def test_what_needs_the_whole_step_refuses_parts_of_it(make, tmp_path: Path):
    with pytest.raises(
        UsageError,
        match=r"^(SISS|SFRon), method.combine=\w+: .*Type trainer.batch_size_per_device=null",
    ):
        train(make(), tmp_path, batch_size_per_device=4)


# -------------------------------------------------------------------------------- Selective Amnesia


def test_selective_amnesia_is_noise_plus_replay_plus_the_pull_to_the_original_weights():
    module = amnesia(replay_weight=0.7, elastic_weight=3.0)
    start = weights(module)
    module.prepare()
    assert module.losses()["elastic"].item() == 0
    information = module.fisher(ImageSet(*everything(module)))
    with torch.no_grad():
        for k, p in enumerate(module.denoiser.parameters()):
            p += 1e-3 * (k % 3)
    losses = module.losses()
    pull = sum(
        (information[name] * (p - start[name]) ** 2).sum()
        for name, p in module.denoiser.named_parameters()
        if name != CLASS_EMBEDDING
    )
    assert pull > 0 and losses["elastic"].item() == pytest.approx(
        3.0 * 64 * 1000 * pull.item(), rel=1e-4
    )
    forget = module.draw("forget", module.conditions, label_dropout=0.0)
    forget.x_0 = (
        2 * torch.rand((8, 1, 8, 8), generator=generator_for(0, "unlearn", "uniform", 0)) - 1
    )
    retain = module.draw("retain", module.replay)
    assert forget.labels.tolist() == [7] * 8 and 7 not in retain.labels
    assert losses["forget"].item() == pytest.approx(
        mean_squared_error(module, forget).item(), rel=1e-5
    )
    assert losses["retain"].item() == pytest.approx(
        0.7 * mean_squared_error(module, retain).item(), rel=1e-5
    )
    expected = (
        mean_squared_error(module, forget)
        + 0.7 * mean_squared_error(module, retain)
        + 3.0 * 64 * 1000 * pull
    )
    torch.testing.assert_close(
        gradients(module, sum(losses.values())), gradients(module, expected), rtol=1e-3, atol=1e-4
    )


def everything(module: SelectiveAmnesia) -> tuple[Tensor, Tensor]:
    """A quarter of 12 images of each class, drawn by the original model."""
    labels = torch.arange(10).repeat_interleave(3)
    return (
        sample(
            network(), labels, schedule=tiny.SCHEDULE, guidance_scale=1.0, seed=0, stream="replay"
        ),
        labels,
    )


def test_selective_amnesia_reads_no_real_image():
    task = new_task((3, 7))
    for part in (task.forget, task.retain):
        part.images.fill_(0)
    module, images, labels = amnesia(task), *everything(amnesia())
    module.prepare()
    kept = (labels != 3) & (labels != 7)
    assert torch.equal(module.replay.images, images[kept]) and torch.equal(
        module.replay.labels, labels[kept]
    )


def test_each_step_has_its_own_noise_of_which_each_pass_takes_its_part():
    module, seen = amnesia(batch_size=12), []
    module.prepare()
    module.denoising_losses = lambda **batches: (
        seen.append(batches["forget"].x_0) or dict.fromkeys(batches, torch.zeros(()))
    )
    module.losses()
    module.accumulate = 3
    for module.micro in range(3):
        module.losses()
    module.accumulate, module.micro = 1, 0
    at_step(module, 1, module.losses)
    assert torch.equal(torch.cat(seen[1:4]), seen[0]) and not torch.isin(seen[4], seen[0]).any()
    assert seen[0].min() >= -1 and seen[0].max() <= 1
    assert seen[0].mean().abs() < 0.1 and seen[0].var().item() == pytest.approx(1 / 3, abs=0.05)


def test_what_matters_is_held_on_to(tmp_path: Path):
    def distance(elastic_weight: float) -> float:
        module = amnesia(elastic_weight=elastic_weight, max_steps=20)
        train(module, tmp_path / str(elastic_weight))
        return sum((f * (p - start).square()).sum().item() for p, start, f in module.anchors)

    assert distance(1e3) < 0.5 * distance(0.0)


def test_the_control_without_the_elastic_term_is_the_loss_of_the_other_two(compose, tmp_path: Path):
    free = from_yaml(
        compose,
        "method",
        "selective_amnesia",
        "method.elastic_weight=0",
        "method.fisher_samples=10",
    )(new_task())
    assert all(row["elastic"] == 0 and row["forget"] > 0 for row in train(free, tmp_path).rows)


# --------------------------------------------------------------------------------------------- SISS


def importance(module: SISS) -> tuple[dict, Tensor, Tensor]:
    """This step's pair, and the weights (2, B) of x and of a from the densities of the Gaussians,
    in float64.
    """
    kept = module.draw("retain", module.task.retain)
    lost = module.draw("forget", module.task.forget, label_dropout=0.0)
    lost.t, lost.noise = kept.t, kept.noise
    n = len(kept.t)
    chosen = torch.rand(n, generator=generator_for(0, "unlearn", "mixture", 0)) < module.mixture
    m = torch.where(chosen.view(-1, 1, 1, 1), x_t(lost), x_t(kept)).double()
    density = [
        torch.distributions.Normal(abar(b.t).sqrt() * b.x_0.double(), (1 - abar(b.t)).sqrt())
        .log_prob(m)
        .sum((1, 2, 3))
        for b in (kept, lost)
    ]
    shares = (
        torch.tensor([1 - module.mixture, module.mixture], dtype=torch.float64).log().view(2, 1)
    )
    density = torch.stack(density)
    return (
        {"kept": kept, "lost": lost, "m": m.float()},
        density.sub((density + shares).logsumexp(0)).exp(),
        chosen,
    )


@pytest.mark.parametrize("mixture", [0.5, 0.2])
def test_siss_weighs_the_errors_of_a_common_image_by_its_densities(mixture: float):
    module = siss(mixture=mixture, batch_size=64)
    losses = module.losses()
    pair, importances, chosen = importance(module)
    assert chosen.float().mean().item() == pytest.approx(mixture, abs=0.15)
    balance = (1 - mixture) * importances[0] + mixture * importances[1]
    torch.testing.assert_close(balance, torch.ones(64, dtype=torch.float64))
    assert ((importances[0] > 0.1) & (importances[1] > 0.1)).any() and (
        importances < 1e-3
    ).any()  # mixed ones and clear ones
    expected = []
    for weight, batch in zip(importances, (pair["kept"], pair["lost"]), strict=True):
        noise = (pair["m"] - abar(batch.t).sqrt() * batch.x_0) / (1 - abar(batch.t)).sqrt()
        answer = module.denoiser(pair["m"], batch.t, class_labels=batch.labels).sample
        expected.append((weight * (answer - noise).square().mean((1, 2, 3))).mean())
    assert losses["retain"].item() == pytest.approx(expected[0].item(), rel=1e-3)
    assert losses["forget"].item() == pytest.approx(-expected[1].item(), rel=1e-3)


def test_the_weighted_loss_is_on_average_that_of_plain_denoising():
    module = siss(batch_size=2000, label_dropout=0.0)
    with torch.no_grad():
        losses = module.losses()
        for name, data in (("retain", module.task.retain), ("forget", module.task.forget)):
            plain = mean_squared_error(module, module.draw(f"plain {name}", data)).item()
            assert abs(losses[name].item()) == pytest.approx(plain, rel=0.1)


def test_the_forget_gradient_is_a_tenth_of_the_retain_gradient_and_subtracted(tmp_path: Path):
    found, plain = (
        first_gradient(siss(), tmp_path / "1"),
        first_gradient(siss(forget_share=None), tmp_path / "2"),
    )
    module = siss()
    losses = _losses_of_step_zero(module)
    g_a, g_x = (gradients(module, losses[name]) for name in ("forget", "retain"))
    torch.testing.assert_close(
        found, g_x + 0.1 * g_x.norm() / g_a.norm() * g_a, rtol=1e-3, atol=1e-5
    )
    torch.testing.assert_close(plain, g_x + g_a, rtol=1e-3, atol=1e-5)
    assert (found - g_x).norm().item() == pytest.approx(0.1 * g_x.norm().item(), rel=1e-3)


def test_without_a_forget_gradient_the_retain_gradient_is_left():
    g = torch.tensor([3.0, 4.0])
    assert torch.equal(difference(torch.zeros(2), g, 0.1), g)
    assert torch.allclose(difference(torch.tensor([0.0, -7.0]), g, 0.1), torch.tensor([3.0, 3.5]))


def test_another_way_to_combine_takes_the_place_of_the_difference():
    assert (
        siss(combine="projection").combiner is projection
        and siss(combine="alternation").combiner is None
    )


# ------------------------------------------------------------------------------------------- SFR-on


@pytest.mark.parametrize("step", [0, 2, 4])
def test_sfron_climbs_less_where_the_loss_is_large_and_less_and_less(step: int):
    module = sfron(max_steps=5, loss_power=0.5, label_dropout=0.3)
    module.prepare()

    def losses_and_draws() -> tuple:
        return (
            module.losses(),
            module.draw("forget", module.task.forget),
            module.draw("retain", module.task.retain),
        )

    losses, forget, retain = at_step(module, step, losses_and_draws)
    output = module.denoiser(x_t(forget), forget.t, class_labels=forget.labels).sample
    each = ((output - forget.noise) ** 2).mean((1, 2, 3))
    share = each.detach() ** -0.5 / (each.detach() ** -0.5).sum()
    expected = -10.0 * (1 + math.cos(math.pi * step / 5)) / 2 * (share * each).sum()
    assert (
        losses["forget"].item() == pytest.approx(expected.item(), rel=1e-4)
        and share.max() > 1.2 * share.min()
    )
    assert losses["retain"].item() == pytest.approx(
        mean_squared_error(module, retain).item(), rel=1e-5
    )
    torch.testing.assert_close(
        gradients(module, losses["forget"]), gradients(module, expected), rtol=1e-3, atol=1e-5
    )


def steps_of(module: SFRon, folder: Path) -> list[dict[str, Tensor]]:
    """The weights before the first step and after each."""
    states = [weights(module)]
    train(module, folder, log_row=lambda step, row: states.append(weights(module)))
    return states


def test_a_forget_step_moves_the_weights_in_the_mask_and_a_retain_step_all(tmp_path: Path):
    module = sfron(max_steps=4, learning_rate=1e-2)
    states = steps_of(module, tmp_path)
    inside = outside = 0
    for name, mask in module.forget_mask.items():
        for step in (0, 2):  # in the second one Adam has momentum from the retain step between
            difference = states[step + 1][name] != states[step][name]
            assert not difference[~mask].any(), (step, name)
            inside += int(difference[mask].sum())
        outside += int((states[2][name] != states[1][name])[~mask].sum())
    masked = sum(int(mask.sum()) for mask in module.forget_mask.values())
    total = sum(mask.numel() for mask in module.forget_mask.values())
    assert 0.02 < masked / total < 0.98
    assert inside > 0.9 * 2 * masked and outside > 0.9 * (total - masked)
    assert module.gradient_mask == {}


def test_each_step_takes_the_gradient_of_its_turn(tmp_path: Path):
    found = first_gradient(sfron(max_steps=2), tmp_path)
    module = sfron(max_steps=2)
    module.prepare()
    torch.testing.assert_close(
        found, gradients(module, _losses_of_step_zero(module)["forget"]), rtol=1e-3, atol=1e-5
    )


def test_the_gradient_is_masked_first_and_clipped_second(tmp_path: Path):
    module, norms = sfron(max_steps=3, grad_clip=1e-3), []
    module.on_before_zero_grad = lambda optimizer: norms.append(
        math.sqrt(sum(p.grad.square().sum() for _, p in module.trained if p.grad is not None))
    )
    train(module, tmp_path)
    assert norms[1:] == pytest.approx([1e-3] * (len(norms) - 1), rel=1e-3)


def test_without_turns_the_mask_holds_in_every_step(tmp_path: Path):
    module = sfron(combine="sum")
    states = steps_of(module, tmp_path)
    for name, mask in module.forget_mask.items():
        assert torch.equal(states[0][name][~mask], states[-1][name][~mask])
    assert moved(states[0], states[-1])


# ------------------------------------------------------------------------------------- Scissorhands


def snip_by_hand(module: Scissorhands, batches: int) -> Tensor:
    """|w| times the sum over batches of |gradient| of the guided loss."""
    net, forget, n = module.denoiser.eval(), module.task.forget, module.batch_size
    ranked = [p for name, p in net.named_parameters() if name != CLASS_EMBEDDING]
    total = torch.zeros(sum(p.numel() for p in ranked))
    for number in range(batches):
        x_0, labels = (
            forget.images[number * n : (number + 1) * n] / 127.5 - 1,
            forget.labels[number * n : (number + 1) * n],
        )
        g = generator_for(module.task.seed, "saliency", number)
        t = torch.randint(1000, (len(labels),), generator=g)
        noise = torch.randn(x_0.shape, generator=g)
        noisy = (abar(t).sqrt() * x_0 + (1 - abar(t)).sqrt() * noise).float()
        guided = (
            3 * net(noisy, t, class_labels=labels).sample
            - 2 * net(noisy, t, class_labels=labels * 0 + 10).sample
        )
        loss = (guided - noise).square().mean()
        total += torch.cat([g.abs().flatten() for g in torch.autograd.grad(loss, ranked)])
    return total * torch.cat([p.detach().abs().flatten() for p in ranked])


@pytest.mark.parametrize("batches", [1, 2])
def test_the_weights_that_matter_most_in_the_decoder_are_drawn_anew(batches: int):
    module = scissorhands(batch_size=5, trim_batches=batches)
    before, names = (
        weights(module),
        [n for n, _ in module.denoiser.named_parameters() if n != CLASS_EMBEDDING],
    )
    score = snip_by_hand(scissorhands(batch_size=5), batches)
    count = round(1e-3 * math.sqrt(859_520_964 / len(score)) * len(score))
    module.prepare()
    after = weights(module)
    assert module.denoiser.training and 0.1 < count / len(score) < 0.2
    top = (score >= score.sort(descending=True).values[count - 1]).split(
        [before[n].numel() for n in names]
    )
    changed, expected = [], []
    for name, chosen in zip(names, top, strict=True):
        may = name.startswith("up_blocks") and "norm" not in name
        changed.append((before[name] != after[name]).flatten())
        expected.append(chosen if may else torch.zeros_like(chosen))
    changed, expected = torch.cat(changed), torch.cat(expected)
    assert (changed == expected).float().mean() > 0.999 and expected.sum() > 0.02 * len(score)
    fresh = network()
    reinitialise(fresh, generator_for(0, "scissorhands").initial_seed())
    for name, value in fresh.state_dict().items():
        new = before[name] != after[name]
        assert torch.equal(after[name][new], value[new])
    assert not torch.equal(after[CLASS_EMBEDDING], fresh.class_embedding.weight)


def test_the_new_values_differ_from_run_to_run_and_from_those_of_the_pretraining():
    states = []
    for seed in (0, 1):
        module = scissorhands(new_task(seed=seed))
        module.denoiser.load_state_dict(
            network(seed).state_dict()
        )  # as if nothing had been learned
        before = weights(module)
        module.prepare()
        states.append(weights(module))
        assert moved(
            before, states[-1]
        )  # drawn with the seed of the run they would all be the same again
    assert moved(*states)


def test_scissorhands_descends_on_the_retain_set_and_climbs_a_little_on_the_forget_set():
    module = scissorhands(forget_weight=0.3)
    module.prepare()
    losses = module.losses()
    forget, retain = (
        module.draw("forget", module.task.forget, label_dropout=0.0),
        module.draw("retain", module.task.retain),
    )
    assert losses["forget"].item() == pytest.approx(
        -0.3 * mean_squared_error(module, forget).item(), rel=1e-5
    )
    assert losses["retain"].item() == pytest.approx(
        mean_squared_error(module, retain).item(), rel=1e-5
    )
    expected = mean_squared_error(module, retain) - 0.3 * mean_squared_error(module, forget)
    torch.testing.assert_close(
        gradients(module, sum(losses.values())), gradients(module, expected), rtol=1e-3, atol=1e-5
    )


def test_the_share_never_exceeds_all():
    module = scissorhands(trim_share=1.0)
    before = weights(module)
    module.prepare()
    assert moved(before, weights(module)) == {
        name for name in before if name.startswith("up_blocks") and "norm" not in name
    }


# ------------------------------------------------------------------------------------ two processes


def in_processes(folder: Path) -> None:
    for make in MAKE:
        module = train(make(batch_size=12, max_steps=5, learning_rate=3e-4), folder / make.__name__)
        torch.save(
            {"weights": weights(module), "rows": module.rows},
            folder / f"{make.__name__}-{distributed.rank()}.pt",
        )


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    finish(
        *(
            started(
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--nnodes=2",
                f"--node_rank={node}",
                "--nproc_per_node=1",
                "--master_addr=127.0.0.1",
                f"--master_port={port}",
                __file__,
                folder,
            )
            for node in (0, 1)
        )
    )
    return folder


@pytest.mark.parametrize("make", MAKE)
def test_two_processes_train_the_model_that_one_trains(make, two: Path, tmp_path: Path):
    alone = train(make(batch_size=12, max_steps=5, learning_rate=3e-4), tmp_path)
    first, second = (torch.load(two / f"{make.__name__}-{rank}.pt") for rank in (0, 1))
    assert not moved(first["weights"], second["weights"]) and first["rows"] == second["rows"]
    for row, expected in zip(first["rows"], alone.rows, strict=True):
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-6)
    for name, value in weights(
        alone
    ).items():  # Adam undoes how small a gradient is, and with it rounding
        torch.testing.assert_close(first["weights"][name], value, rtol=0, atol=2e-4)


if __name__ == "__main__":
    launch.processes({"threads": 1, "devices": 1, "accelerator": "cpu"})
    in_processes(Path(sys.argv[1]))
    launch.leave()
