"""ManiF-SMC: forgotten images move in feature space until a margin of their own is reached."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from formulas import at_step
from small_classifiers import CONFIG, classifying, learned, new_task
from test_resume import assert_same, train_in_two_parts
from tiny import moved, train, weights

from unrelearn.classification.bank import Bank, Member
from unrelearn.classification.classifying import Classifying, ClassifyingTask, unit
from unrelearn.classification.manifold import FeatureSpace, features
from unrelearn.classification.networks import build
from unrelearn.classification.recipe import Recipe
from unrelearn.config.classifiers import FIRST_HALF, FIRST_REFERENCE
from unrelearn.data import ImageSet
from unrelearn.methods.manif_smc import ManifSMC

RECIPE = Recipe(max_steps=10, batch_size=20, learning_rate=0.05)
KINDS = ["zero", "fixed", "own", "trained_curve", "random_curve", "short_retrain", "retrain"]
SETTINGS: dict[str, Any] = dict(
    max_steps=4,
    batch_size=16,
    learning_rate=2e-3,
    optimizer="adam",
    direction="away",
    margin="own",
    fixed_margin=0.3,
    scale_margins=False,
    permute_margins=False,
    neighbours=3,
    beta=0.5,
    curve_steps=5,
    curve_learning_rate=0.05,
    retrained=2,
    short_share=0.3,
)


def task(**changes) -> ClassifyingTask:
    return new_task(**{"network": learned(), "recipe": RECIPE, **changes})


def manif(given: ClassifyingTask | None = None, **changes) -> Classifying:
    return classifying(ManifSMC(**{**SETTINGS, **changes}), given or task())


def prepared(given: ClassifyingTask | None = None, **changes) -> Classifying:
    module = manif(given, **changes)
    module.prepare()
    return module


# --------------------------------------------------------------------------------------- losses


def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a - b) ** 2).sum(-1)


@pytest.mark.parametrize("direction", ["towards", "away"])
def test_the_loss_is_that_of_a_loop_over_images(direction: str):
    module = prepared(direction=direction, margin="own")
    space, margins = module.method.space, module.method.margins.double().numpy()
    start, retain = space.retain.double().numpy(), module.task.retain
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():  # away from where nothing pulls back
        for p in module.network.parameters():
            p += 0.02 * torch.randn(p.shape, generator=g)
    losses = at_step(module, 1, lambda: module.method.losses(module))
    index = at_step(module, 1, lambda: module.indexes("forget", 40, 1))
    drawn = at_step(module, 1, lambda: module.uniform("positive"))
    forget = features(module.network, module.task.forget).double().numpy()
    now = features(module.network, retain).double().numpy()
    a, b = space.layout.pairs.tolist()
    scale = squares(start[a], start[b]).mean()
    hinges, kept = [], []
    for u, p in zip(index.tolist(), drawn.tolist(), strict=True):
        near = space.layout.neighbours[u].tolist()
        centre, z = start[near].mean(0), forget[u]
        other = space.own[u].double().numpy()
        ahead = squares(z, centre) - squares(z, other)
        if direction == "away":
            ahead = squares(now[near[int(3 * p)]], centre) - squares(z, centre)
        hinges.append(max(0, ahead / scale + margins[u]))
        kept += [squares(now[j], start[j]) / scale for j in near]
    assert 0 < np.mean(np.array(hinges) == 0) < 1
    assert losses["forget"].item() == pytest.approx(np.mean(hinges), rel=1e-3)
    assert losses["retain"].item() == pytest.approx(0.5 * np.mean(kept), rel=1e-3)


def pull(module: Classifying, distance: float, margin: float) -> tuple[float, torch.Tensor]:
    """Of one image so far from its neighbours' centre, and each neighbour as far: the loss and its
    gradient by the image's features.
    """
    method, u = module.method, torch.tensor([4])
    method.margins = torch.full((40,), margin)
    centre = method.space.centres[u]
    z = (centre + distance).requires_grad_()
    near = (centre + distance)[:, None].expand(1, 3, -1)
    loss = method.hinge(module, u, z, near).sum()
    (gradient,) = torch.autograd.grad(loss, z)
    return loss.item(), gradient


def test_away_with_no_margin_nothing_pulls_on_what_is_as_far_as_the_neighbours():
    module = prepared(task(), direction="away", batch_size=1)
    loss, gradient = pull(module, 0.1, 0.0)
    assert loss == 0 and not gradient.any()
    loss, gradient = pull(module, 0.1, 0.25)
    assert loss == pytest.approx(0.25)
    assert (gradient < 0).all()  # descending it leads farther from the centre


def test_towards_pulls_to_the_neighbours_until_the_margin_is_reached():
    module = prepared(task(), direction="towards", batch_size=1)
    method, u = module.method, torch.tensor([4])
    method.margins = torch.full((40,), 0.2)
    centre, own = method.space.centres[u], method.space.own[u]
    line = centre - own
    z = (own + 0.5 * line).requires_grad_()
    near = method.space.retain[method.space.layout.neighbours[u]]
    (gradient,) = torch.autograd.grad(method.hinge(module, u, z, near).sum(), z)
    assert (gradient * line).sum() < 0
    apart = method.space.distance(centre, own).item()  # what the margin is at the centre itself
    method.margins = torch.full((40,), 0.9 * apart)
    assert method.hinge(module, u, centre, near).item() == 0
    assert method.hinge(module, u, own, near).item() > 0


def test_only_the_body_moves_and_statistics_stay(tmp_path: Path):
    module = manif(margin="fixed")
    before = weights(module)
    train(module, tmp_path)
    expected = {name for name, _ in module.network.named_parameters() if name.startswith("body")}
    assert moved(before, weights(module)) == expected
    assert [row["step"] for row in module.rows] == [1, 2, 3, 4]
    assert module.method.passes == (4, 0)


def test_away_drives_images_from_their_neighbours_and_keeps_the_neighbours(tmp_path: Path):
    module = train(manif(margin="fixed", max_steps=40, beta=2.0), tmp_path)
    space = module.method.space
    after = FeatureSpace(
        space.layout,
        *(features(module.network, part) for part in (module.task.forget, module.task.retain)),
    )
    here = space.distance(space.forget, space.centres).mean()
    there = space.distance(after.forget, space.centres).mean()
    near = space.layout.neighbours.unique()
    kept = space.distance(after.retain[near], space.retain[near]).mean()
    assert there > 3 * here and kept < 0.5 * there


# -------------------------------------------------------------------------------------- margins


@pytest.mark.parametrize("margin", KINDS)
@pytest.mark.parametrize("direction", ["towards", "away"])
def test_every_margin_is_one_number_an_image_and_the_same_each_time(margin: str, direction: str):
    first, again = (prepared(margin=margin, direction=direction).method.margins for _ in range(2))
    assert first.shape == (40,) and (first >= 0).all() and torch.equal(first, again)
    if margin in ("zero", "fixed"):
        assert (first == {"zero": 0.0, "fixed": 0.3}[margin]).all()
    else:
        assert len(first.unique()) > 15


def test_no_two_kinds_of_margin_are_the_same():
    every = [prepared(margin=margin).method.margins for margin in KINDS]
    for number, one in enumerate(every):
        assert not any(torch.allclose(one, other) for other in every[:number])


@pytest.mark.parametrize("margin", ["own", "random_curve"])
def test_permuted_margins_are_the_same_numbers_of_other_images(margin: str):
    plain, permuted = (
        prepared(margin=margin, permute_margins=p).method.margins for p in (False, True)
    )
    assert torch.equal(plain.sort().values, permuted.sort().values)
    assert (plain != permuted).float().mean() > 0.3
    other = prepared(task(seed=1), margin="own", permute_margins=True).method.margins
    same = prepared(task(seed=1), margin="own").method.margins
    assert torch.equal(other.sort().values, same.sort().values)


def test_scaled_margins_have_the_mean_of_a_fixed_one_and_their_own_ratios():
    plain, scaled = (
        prepared(margin="own", scale_margins=s).method.margins.double() for s in (False, True)
    )
    assert scaled.mean().item() == pytest.approx(0.3, rel=1e-5)
    torch.testing.assert_close(scaled / scaled.sum(), plain / plain.sum(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("margin", "steps"), [("retrain", 10), ("short_retrain", 3)])
def test_retrained_margins_are_means_over_networks_of_a_banks_recipe(margin: str, steps: int):
    module = prepared(margin=margin)
    retain = module.task.retain
    bank = Bank(CONFIG, [Member(seed, torch.arange(260)) for seed in (200_000, 200_001)])
    bank.train(retain, replace(RECIPE, max_steps=steps))
    each = []
    for number in range(2):
        network = build(CONFIG, 0)
        network.load_state_dict(bank.state_dict(number))
        layout = module.method.space.layout
        parts = (features(network, part) for part in (module.task.forget, retain))
        each.append(FeatureSpace(layout, *parts).margins("away"))
    torch.testing.assert_close(module.method.margins, (each[0] + each[1]) / 2, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(each[0], each[1], rtol=0.1)


def test_no_seed_of_a_run_is_anothers_or_a_references():
    asked: list[dict[str, Any]] = []

    def cached(name: str, settings: dict[str, Any], compute):
        asked.append({"name": name, **settings})
        return compute()

    short = replace(RECIPE, max_steps=1)
    for seed in (0, 1, 99_999):
        prepared(task(seed=seed, recipe=short, cached=cached), margin="retrain")
    seeds = [seed for one in asked for seed in one["seeds"]]
    assert len(set(seeds)) == 6
    # a thousand references, and a thousand models that each saw a half, have none of them
    firsts = [99_999, FIRST_REFERENCE, FIRST_HALF, min(seeds)]
    assert all(b - a >= 1000 for a, b in itertools.pairwise(firsts[1:])) and firsts[0] < firsts[1]
    assert asked[0]["max_steps"] == 1 and "learning_rate" in asked[0]
    other = task(recipe=short, cached=cached)
    other.forget = other.forget.take(torch.arange(39))
    prepared(other, margin="retrain")
    assert asked[-1]["sets"] != asked[0]["sets"] == asked[1]["sets"]


@pytest.mark.parametrize("direction", ["towards", "away"])
def test_no_label_of_a_forgotten_image_is_read(direction: str):
    plain, blind = (task(recipe=replace(RECIPE, max_steps=2)) for _ in range(2))
    blind.forget = ImageSet(blind.forget.images, torch.zeros_like(blind.forget.labels))
    for margin in ("own", "trained_curve", "retrain"):
        modules = [prepared(one, margin=margin, direction=direction) for one in (plain, blind)]
        assert torch.equal(*(module.method.margins for module in modules))
        first, second = (module.method.losses(module) for module in modules)
        assert first == second


def test_the_first_forward_pass_is_in_evaluation_mode():
    module = prepared(beta=1.0)
    module.network.train()
    assert module.method.losses(module)["retain"].item() == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        z = module.network.eval().features(unit(module.task.forget.images))
    torch.testing.assert_close(z, module.method.space.forget, rtol=1e-5, atol=1e-6)


def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path):
    def new() -> Classifying:
        return manif(margin="trained_curve", max_steps=7)

    assert_same(train(new(), tmp_path / "whole"), train_in_two_parts(new, tmp_path / "parts", 5))
