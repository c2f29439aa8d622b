"""How two gradients become one step: small cases by hand, and whole trainings."""

import math

import pytest
import torch
from tiny import denoising, moved, new_task, train, weights

from unrelearn.diffusion.denoising import Denoising
from unrelearn.errors import UsageError
from unrelearn.gradients import COMBINERS, bargaining, harmonic, projection
from unrelearn.methods.dimum import DiMUM

COMBINE = [*COMBINERS, "alternation"]


def vectors(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(
        torch.randn((2, 50), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )


def dimum(combine: str, **changes) -> Denoising:
    return denoising(
        DiMUM(
            **{
                **dict(memory="another_class", max_steps=4, batch_size=8, learning_rate=1e-3),
                **changes,
            },
            combine=combine,
        ),
        new_task(),
    )


def test_projection_by_hand():
    forget, retain = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert torch.allclose(
        projection(forget, retain), torch.tensor([0.5, -0.5]) + torch.tensor([0.0, 1.0])
    )


@pytest.mark.parametrize("seed", range(5))
def test_projection_harms_neither_side(seed: int):
    forget, retain = vectors(seed)
    step = projection(forget, retain)
    assert step @ forget >= -1e-12 and step @ retain >= -1e-12


@pytest.mark.parametrize("seed", range(5))
def test_bargaining_solves_the_equations_of_nash(seed: int):
    forget, retain = vectors(seed)
    cosine = forget @ retain / forget.norm() / retain.norm()
    alpha = torch.stack([1 / forget.norm(), 1 / retain.norm()]) / (1 + cosine).sqrt()
    players = torch.stack([forget, retain])
    torch.testing.assert_close(players @ players.T @ alpha, 1 / alpha)
    torch.testing.assert_close(bargaining(forget, retain), alpha @ players)


def test_harmonic_by_hand():
    step = harmonic(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0]))
    assert torch.allclose(step, torch.tensor([1.5, 1.5]) / math.sqrt(2))


@pytest.mark.parametrize("combiner", COMBINERS.values(), ids=COMBINERS)
def test_opposed_gradients_and_none_at_all_give_no_step(combiner):
    g = torch.tensor([1.0, 2.0])
    assert combiner(g, -2 * g).abs().max() < 1e-6
    assert torch.equal(combiner(torch.zeros(2), torch.zeros(2)), torch.zeros(2))


@pytest.mark.parametrize("combine", COMBINE)
def test_each_way_to_combine_trains_and_leaves_the_class_table(combine: str, tmp_path):
    module = dimum(combine)
    before = weights(module)
    changed = moved(before, weights(train(module, tmp_path)))
    assert "conv_in.weight" in changed and "class_embedding.weight" not in changed
    assert len(module.rows) > 0 and module.diverged_at is None


def test_the_gradient_of_a_step_is_the_combination_of_both(tmp_path):
    module, other = dimum("projection", max_steps=1), dimum("sum", max_steps=1)
    seen = {}
    for name, m in (("projection", module), ("sum", other)):
        m.configure_gradient_clipping = lambda *a, name=name, m=m, **k: seen.update(
            {name: torch.cat([p.grad.flatten() for _, p in m.trained])}
        )
        train(m, tmp_path / name)
    parts = dimum("sum")
    parts.prepare()
    parameters = [p for p in parts.network.parameters() if p.requires_grad]
    parts.network.train()
    losses = _losses_of_step_zero(parts)
    forget, retain = (
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(losses[k], parameters, retain_graph=True)]
        )
        for k in ("memory", "retain")
    )
    torch.testing.assert_close(seen["sum"], forget + retain, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(seen["projection"], projection(forget, retain), atol=1e-6, rtol=1e-4)


def _losses_of_step_zero(module: Denoising) -> dict:
    type(module).global_step = property(lambda self: 0)
    try:
        return module.method.losses(module)
    finally:
        del type(module).global_step


def test_alternation_takes_turns(tmp_path):
    turns = []
    module = dimum("alternation")
    plain = module.backward
    module.backward = lambda loss, *a, **k: (turns.append(float(loss)), plain(loss, *a, **k))[1]
    train(module, tmp_path, log_every_n_steps=1)
    expected = [row["memory" if i % 2 == 0 else "retain"] for i, row in enumerate(module.rows)]
    assert turns == pytest.approx(expected, rel=1e-6)


def test_combining_needs_the_whole_step(tmp_path):
    with pytest.raises(UsageError, match=r"method.combine=projection.*batch_size_per_device=null"):
        train(dimum("projection"), tmp_path, batch_size_per_device=2)
