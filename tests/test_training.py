"""What `Training` does for every method: weights that may not move, draws, and what it refuses."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_fit import LIMIT
from tiny import denoising, new_task, train, weights
from torch.optim import SGD, Adam, AdamW

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.denoising import Denoising
from unrelearn.errors import UsageError
from unrelearn.method import Method
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.salun import SalUn
from unrelearn.methods.sfron import SFRon

SMALL = dict(max_steps=4, batch_size=12, learning_rate=1e-2)
OPTIMISERS = {
    "Adam with weight decay": lambda parameters: Adam(parameters, 1e-2, weight_decay=0.1),
    "AdamW": lambda parameters: AdamW(parameters, 1e-2, weight_decay=0.1),
    "SGD with momentum": lambda parameters: SGD(parameters, 1e-2, momentum=0.9),
    "SGD with both": lambda parameters: SGD(parameters, 1e-2, momentum=0.9, weight_decay=0.1),
}


def salun() -> Method:
    return SalUn(retain_weight=1.0, saliency_fraction=0.3, blocks=["up_blocks", "mid"], **SMALL)


def sfron() -> Method:
    """Its mask holds in every second step: momentum comes from the steps between."""
    constants = dict(forget_weight=1.0, loss_power=0.5, fisher_ratio=1.0, fisher_samples=10)
    return SFRon(blocks=["up_blocks", "mid"], **constants, **SMALL)


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize(("method", "masked"), [(salun, (0, 1, 2, 3)), (sfron, (0, 2))])
def test_masked_and_frozen_weights_stay_to_the_bit_whatever_the_optimiser(
    method: Callable[[], Method], masked: tuple[int, ...], make: Callable, tmp_path: Path
):
    class Other(Denoising):
        def new_optimizer(self, parameters: list):
            return make(parameters)

    module = Other(method(), new_task())
    states = [weights(module)]
    train(module, tmp_path, log_row=lambda step, row: states.append(weights(module)))
    moved = 0
    for step in range(4):
        for name, before in states[step].items():
            changed = before != states[step + 1][name]
            if not name.startswith(("up_blocks", "mid")):
                assert not changed.any(), (step, name)
            elif step in masked:
                assert not changed[~module.mask[name]].any(), (step, name)
            moved += int(changed.sum())
    assert moved > 0


def test_what_is_drawn_by_name_is_of_the_step_and_its_parts_are_those_of_the_whole():
    module = denoising(Finetune(**SMALL))
    whole = {
        "uniform": module.uniform("a", (2, 3)),
        "chosen": module.choose("b", [3, 5, 8]),
        "another": module.uniform("c", (2, 3)),
    }
    assert whole["uniform"].shape == (12, 2, 3) and whole["chosen"].shape == (12,)
    assert not torch.equal(whole["uniform"], whole["another"])
    assert set(whole["chosen"].tolist()) <= {3, 5, 8} and module.choose_one("b", [4]) == 4
    module.accumulate, parts = 3, {"uniform": [], "chosen": []}
    for module.micro in range(3):
        parts["uniform"].append(module.uniform("a", (2, 3)))
        parts["chosen"].append(module.choose("b", [3, 5, 8]))
    assert all(torch.equal(torch.cat(part), whole[name]) for name, part in parts.items())


def test_what_is_computed_once_a_step_is_kept_for_its_passes_and_computed_anew_in_the_next(
    tmp_path: Path,
):
    class Counting(Finetune):
        def losses(self, t: Denoising) -> dict[str, torch.Tensor]:
            seen.append((t.step, t.once("number", lambda: len(seen))))
            return super().losses(t)

    seen: list[tuple[int, int]] = []
    train(denoising(Counting(**SMALL | {"max_steps": 2})), tmp_path, batch_size_per_device=LIMIT[3])
    assert seen == [(0, 0), (0, 0), (0, 0), (1, 3), (1, 3), (1, 3)]


def test_the_class_table_moves_only_where_that_is_asked_for():
    for table in (False, True):
        module = denoising(Finetune(train_class_embedding=table, **SMALL))
        trained = {name for name, p in module.network.named_parameters() if p.requires_grad}
        assert (CLASS_EMBEDDING in trained) is table and len(trained) > 10


def test_blocks_that_are_none_are_refused_with_those_there_are():
    with pytest.raises(UsageError, match=r"method\.blocks=\['uq'\].*allowed: .*up_blocks.*Type"):
        denoising(Finetune(blocks=["uq"], **SMALL))


def test_blocks_of_which_none_may_move_are_refused_with_those_that_may(monkeypatch):
    monkeypatch.setattr(Denoising, "may_move", lambda module, name: name.startswith("mid"))
    with pytest.raises(UsageError, match=r"that may move begins so; allowed: mid_block\. Type"):
        denoising(Finetune(blocks=["up_blocks"], **SMALL))


def test_the_gradient_is_clipped_to_its_norm(tmp_path: Path):
    module, norms = denoising(Finetune(grad_clip=0.05, **SMALL | {"max_steps": 3}), new_task()), []

    def look(optimizer) -> None:  # before the gradient of the step before is cleared
        squares = [p.grad.square().sum() for p in module.network.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(squares)))

    module.on_before_zero_grad = look
    train(module, tmp_path)
    assert norms[1:] == pytest.approx([0.05] * (len(norms) - 1), rel=1e-3) and len(norms) == 3
