"""Relative steps and the annealed learning rate: the formulas, what stays where it is, and
functions in other units.
"""

import math
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from runs import Cell
from test_fit import LIMIT, assert_close
from test_resume import assert_same, train_in_two_parts
from tiny import (
    CONF,
    PRESETS,
    TRAINED,
    denoising,
    from_yaml,
    moved,
    network,
    new_task,
    train,
    weights,
)
from torch import Tensor

from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.lora import LoRA
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import Denoising
from unrelearn.errors import UsageError
from unrelearn.methods.salun import SalUn
from unrelearn.optimizers import RelativeAdam

SMALL = dict(budgets=[0, 6], batch_size=12)


def relative(task=None, **changes) -> Denoising:
    return denoising(
        DiMRA(**{**SMALL, "optimizer": "relative", "learning_rate": 1e-2, **changes}),
        task or new_task(),
    )


# ----------------------------------------------------------------------------------- relative steps


@pytest.mark.parametrize("shape", [(3, 2, 4, 4), (5, 7), (6,)])
def test_three_relative_steps_are_those_written_out_here(shape: tuple[int, ...]):
    g = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=g)
    start[0] = 0.0  # smaller than the floor
    gradients = [torch.randn(shape, generator=g) for _ in range(3)]
    parameter = torch.nn.Parameter(start.clone())
    optimizer = RelativeAdam([parameter], lr=0.05)
    p, m, v = start.double(), 0.0, 0.0
    for k, gradient in enumerate(gradients, 1):
        parameter.grad = gradient.clone()
        optimizer.step()
        m, v = 0.9 * m + 0.1 * gradient.double(), 0.999 * v + 0.001 * gradient.double() ** 2
        channels = p.reshape(shape[0], -1) if len(shape) > 1 else p.reshape(1, -1)
        size = torch.tensor(
            [max(1e-3, math.sqrt(float((row**2).mean()))) for row in channels]
        ).double()
        step = 0.05 * (m / (1 - 0.9**k)) / (v / (1 - 0.999**k)).sqrt()
        p = p - step * (size.view(-1, *[1] * (len(shape) - 1)) if len(shape) > 1 else size)
        torch.testing.assert_close(parameter.detach().double(), p, rtol=1e-5, atol=1e-8)
    assert (parameter[0] != 0).all()


def rescaled(factor: float):
    """The tiny network with every convolution that feeds a normalisation multiplied, its bias too:
    the same function.
    """
    net = network()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith(
                ("conv1.weight", "conv1.bias", "time_emb_proj.weight", "time_emb_proj.bias")
            ):
                parameter *= factor
    return net


def difference(a, b) -> float:
    """Of two networks' answers, relative to their length."""
    data, g = new_task().retain, torch.Generator().manual_seed(1)
    x, t = torch.randn((64, 1, 8, 8), generator=g), torch.randint(1000, (64,), generator=g)
    with torch.no_grad():
        one, other = (net.eval()(x, t, class_labels=data.labels[:64]).sample for net in (a, b))
    return ((one - other).norm() / one.norm()).item()


@pytest.mark.parametrize("factor", [100.0, 0.3])
def test_the_same_function_in_other_units_is_the_same_after_relative_steps_and_not_after_adams(
    factor: float, tmp_path: Path
):
    def trained(net, name: str, **changes):
        task = new_task()
        task.network = net
        return train(relative(task, **changes), tmp_path / name).network

    assert difference(network(), rescaled(factor)) < 1e-3
    plain, other = trained(network(), "plain"), trained(rescaled(factor), "other")
    went = difference(network(), plain)
    assert went > 0.05 and difference(plain, other) < 0.02 * went
    adam = {"optimizer": "adam", "learning_rate": 1e-3}
    assert (
        difference(
            trained(network(), "adam", **adam), trained(rescaled(factor), "adam-other", **adam)
        )
        > 0.1 * went
    )


def test_under_relative_steps_masked_and_frozen_weights_stay_to_the_bit(tmp_path: Path):
    module = denoising(
        SalUn(
            max_steps=4,
            batch_size=8,
            learning_rate=1e-2,
            retain_weight=1.0,
            saliency_fraction=0.2,
            saliency_guidance_scale=3.0,
            optimizer="relative",
            blocks=["up_blocks"],
        ),
        new_task(),
    )
    before = weights(module)
    train(module, tmp_path)
    after = weights(module)
    trained = {name for name, p in module.network.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("up_blocks") for name in trained)
    for name, value in before.items():
        may = module.mask[name] if name in trained else torch.zeros_like(value, dtype=torch.bool)
        assert torch.equal(after[name][~may], value[~may]) and CLASS_EMBEDDING not in trained
    assert moved(before, after) == {name for name in trained if module.mask[name].any()}


def test_relative_steps_move_what_starts_at_zero(tmp_path: Path):
    module = denoising(
        LoRA(rank=2, num_images=3, optimizer="relative", learning_rate=1e-2, **SMALL), new_task()
    )
    train(module, tmp_path)
    assert all(
        bool((p != 0).all()) for name, p in module.network.named_parameters() if name.endswith(".B")
    )


def test_a_stopped_attack_by_relative_steps_ends_with_the_same_bits_in_any_memory_layout(
    tmp_path: Path,
):
    def make() -> Denoising:
        return relative(budgets=[9], lr_schedule="cosine")

    whole = train(make(), tmp_path / "whole")
    assert_same(whole, train_in_two_parts(make, tmp_path / "parts", 8))
    last = train(make(), tmp_path / "last", channels_last=True)
    assert [row["auxiliary"] for row in last.rows] == pytest.approx(
        [row["auxiliary"] for row in whole.rows], rel=1e-3
    )


def test_a_relative_step_in_several_passes_is_the_step_in_one(tmp_path: Path):
    whole = train(relative(budgets=[3]), tmp_path / "whole")
    assert_close(
        train(relative(budgets=[3]), tmp_path / "3", batch_size_per_device=LIMIT[3]),
        whole,
        tolerance=3e-4,
    )


# ------------------------------------------------------------------------------------------ presets


def test_a_preset_has_its_own_name_and_the_code_and_key_of_what_it_presets(compose):
    preset = compose("attack=dimra_relative")
    typed = compose("attack=dimra", "+attack.optimizer=relative", "attack.learning_rate=1e-2")
    one, other = Cell(preset, ""), Cell(typed, "")
    assert (
        preset["attack"]["_target_"] == typed["attack"]["_target_"]
        and preset["attack"]["preset"] == "dimra_relative"
    )
    assert one.names["attack"] == "dimra_relative" and one.name.startswith(
        "digits-dimum-dimra_relative-forget7-"
    )
    assert one.attacked[0].stage.key == other.attacked[0].stage.key
    assert other.names["attack"] == "dimra"


@pytest.mark.parametrize(
    "given",
    [
        "attack=dimra +attack.preset=../x",
        "attack=dimra_relative attack.preset=dimra",
        "method=dimum +method.preset=null",
    ],
)
def test_a_preset_that_no_yaml_is_gets_one_line(given: str, compose):
    with pytest.raises(UsageError) as error:
        compose(*given.split(" "))
    (problem,) = error.value.problems
    assert (
        "preset" in problem and "no such preset; allowed: " in problem and ".preset out" in problem
    )


# ----------------------------------------------------------------------- the annealed learning rate


def rates(module: Denoising, folder: Path) -> list[float]:
    """The learning rate of each step."""
    seen: list[float] = []
    losses = module.method.losses

    def watched(t: Denoising) -> dict[str, Tensor]:
        seen.append(module.optimizers(use_pl_optimizer=False).param_groups[0]["lr"])
        return losses(t)

    module.method.losses = watched
    train(
        module, folder, **({"batch_size_per_device": 6} if module.method.batch_size == 12 else {})
    )
    assert module.optimizers(use_pl_optimizer=False).param_groups[0]["lr"] == pytest.approx(
        0, abs=1e-12
    )
    return seen


@pytest.mark.parametrize("optimizer", ["adam", "relative"])
@pytest.mark.parametrize(("batch_size", "passes"), [(8, 1), (12, 2)])
def test_cosine_goes_from_the_learning_rate_to_nothing_once_a_step(
    optimizer: str, batch_size: int, passes: int, tmp_path: Path
):
    module = denoising(
        DiMRA(
            budgets=[0, 2, 10],
            batch_size=batch_size,
            learning_rate=1e-3,
            lr_schedule="cosine",
            optimizer=optimizer,
        ),
        new_task(),
    )
    wanted = [1e-3 * (1 + math.cos(math.pi * k / 10)) / 2 for k in range(10) for _ in range(passes)]
    assert rates(module, tmp_path) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_every_attack_that_trains_is_annealed_unless_the_root_says_otherwise(compose):
    for name in {name for group, name in TRAINED if group == "attack"} - PRESETS | {
        "interpolation"
    }:
        written = OmegaConf.to_container(OmegaConf.load(CONF / "attack" / f"{name}.yaml"))
        assert written["lr_schedule"] == "${relearning.lr_schedule}", name
    found = [
        compose("attack=dimra_relative", f"relearning.lr_schedule={kind}")["attack"]
        for kind in ("cosine", "constant")
    ]
    assert [attack["lr_schedule"] for attack in found] == ["cosine", "constant"]
    assert compose()["relearning"] == {
        "seed": 0,
        "budgets": [0, 50, 100, 200, 400, 800],
        "batch_size": 64,
        "learning_rate": 1e-3,
        "lr_schedule": "cosine",
    }


@pytest.mark.parametrize("key", ["relearning", "attack", "+method", "model.pretrain"])
def test_a_schedule_that_there_is_not_gets_a_line_with_those_there_are(key: str, compose):
    with pytest.raises(UsageError) as error:
        compose(f"{key}.lr_schedule=linear")
    allowed = "constant, one_cycle, cosine, multistep"
    wanted = f"{key.lstrip('+')}.lr_schedule=linear: must be one of {allowed}. Type "
    assert any(problem.startswith(wanted) for problem in error.value.problems)


def test_methods_may_be_annealed_too(compose, tmp_path: Path):
    module = from_yaml(
        compose, "method", "dimum", "+method.lr_schedule=cosine", "+method.optimizer=relative"
    )(new_task())
    assert train(module, tmp_path).diverged_at is None
