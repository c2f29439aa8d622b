"""Attacks that edit the unlearned model: closed forms, what they leave alone, and the way through
the pipeline.
"""

import json
from pathlib import Path

import pytest
import torch
from runs import Cell
from safetensors.torch import load_file
from test_resume import train_in_two_parts
from tiny import EDITS, SCHEDULE, SMALL, from_yaml, moved, network, new_task, train, weights

from unrelearn import cost
from unrelearn.attacks.context_probe import ContextProbe
from unrelearn.attacks.interpolation import Interpolation
from unrelearn.attacks.prune import Prune
from unrelearn.attacks.quantize import rounded
from unrelearn.attacks.row_transplant import RowTransplant
from unrelearn.attacks.weight_noise import WeightNoise
from unrelearn.data import to_model_range
from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.canonical import canonical
from unrelearn.diffusion.denoiser import CLASS_EMBEDDING
from unrelearn.diffusion.maths import alphas_cumprod
from unrelearn.diffusion.sampling import sample
from unrelearn.errors import UsageError
from unrelearn.module import Edit, Task
from unrelearn.randomness import generator_for
from unrelearn.record import recovery
from unrelearn.stages.train import snapshot

TRAINING = dict(budgets=[0, 3], batch_size=8, learning_rate=1e-3)
MATRICES = {name for name, p in network().named_parameters() if p.ndim >= 2}


def at(module: Edit, level: float) -> dict[str, torch.Tensor]:
    """The weights at a level."""
    with module.edited(level):
        return weights(module)


# -------------------------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_takes_no_step_is_undone_after_each_level_and_repeats_to_the_bit(
    name: str, compose, tmp_path: Path
):
    make = from_yaml(compose, "attack", name)
    module, again = (train(make(new_task((3, 7))), tmp_path / part) for part in ("first", "again"))
    before = weights(module)
    assert module.max_steps == 0 and not moved(network().state_dict(), before)
    levels = module.levels
    edited = [at(module, level) for level in levels]
    assert [row["step"] for row in module.rows] == levels and not moved(before, weights(module))
    for level, found in zip(
        reversed(levels), reversed(edited), strict=True
    ):  # whatever levels came before
        assert not moved(found, at(again, level))
    may = {
        "context_probe": set(),
        "row_transplant": {CLASS_EMBEDDING},
        "quantize": MATRICES,
        "prune": MATRICES - {CLASS_EMBEDDING},
    }.get(name, set(before))
    assert all(moved(before, found) <= may for found in edited)
    assert all(moved(before, found) for found in edited) or name == "context_probe"


@pytest.mark.parametrize(
    "overrides",
    [
        "attack=quantize attack.levels=[]",
        "attack=quantize attack.levels=[1]",
        "attack=quantize attack.levels=[8,8]",
        "attack=prune attack.levels=[0.5,1.5]",
        "attack=context_probe attack.levels=[0]",
        "attack=interpolation attack.levels=[-0.1]",
    ],
)
def test_levels_are_different_numbers_that_the_attack_allows(overrides: str, compose):
    with pytest.raises(UsageError) as error:
        compose(*overrides.split(" "))
    (problem,) = error.value.problems
    assert (
        problem.startswith("attack.levels=[")
        and "different numbers" in problem
        and "Type 'attack.levels=[" in problem
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("attack=quantize attack.levels=[4.5]", "a whole number"),
        ("attack=prune attack.levels=few", "a list"),
        ("attack=prune +attack.batch_size=4", "no such key; allowed: levels"),
        ("attack=embedding_inversion +attack.label_dropout=0.1", "no such key; allowed: budgets"),
    ],
)
def test_what_an_attack_can_not_read_is_refused(overrides: str, said: str, compose):
    with pytest.raises(UsageError) as error:
        compose(*overrides.split(" "))
    assert len(error.value.problems) == 1 and said in error.value.problems[0], error.value.problems


def test_the_original_model_has_to_be_given():
    task = new_task()
    bare = Task(
        **{
            name: getattr(task, name)
            for name in (
                "denoiser",
                "schedule",
                "forget",
                "retain",
                "forget_classes",
                "class_names",
                "seed",
            )
        }
    )
    with pytest.raises(UsageError, match="original model"):
        at(RowTransplant(bare, levels=[1.0]), 1.0)


# ------------------------------------------------------------------------------------- each of them


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_errs_by_half_a_step_and_has_so_many_levels(bits: int):
    weight = torch.randn(5, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    weight[1], weight[2] = 100 * weight[1], 0.0
    found, m = rounded(weight, bits), 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(1) / m
    assert ((found - weight).flatten(1).abs().amax(1) <= scale / 2 * (1 + 1e-5)).all()
    for channel in (0, 1, 3, 4):
        steps = found[channel].flatten() / scale[channel]
        torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
        assert steps.abs().max().round() == m and len(steps.round().unique()) <= 2 * m + 1
    assert (found[2] == 0).all()


def test_what_is_on_the_grid_is_not_rounded():
    grid = torch.randint(-7, 8, (4, 9), generator=torch.Generator().manual_seed(0)).float()
    grid[:, 0] = 7.0
    grid *= torch.tensor([[1.0], [0.25], [2.0**-20], [0.0]])
    assert torch.equal(rounded(grid, 4), grid) and not torch.equal(rounded(grid, 3), grid)


@pytest.mark.parametrize("level", [0.1, 0.5])
def test_pruning_sets_the_smallest_weights_of_all_to_zero(level: float):
    module = Prune(new_task(), levels=[level])
    ranked = MATRICES - {CLASS_EMBEDDING}
    before = torch.cat(
        [p.flatten() for name, p in module.denoiser.named_parameters() if name in ranked]
    ).detach()
    found = at(module, level)
    after = torch.cat(
        [found[name].flatten() for name, _ in module.denoiser.named_parameters() if name in ranked]
    )
    assert (after == 0).sum() == round(level * len(after)) and torch.equal(
        after[after != 0], before[after != 0]
    )
    assert before[after == 0].abs().max() <= before[after != 0].abs().min()


def test_weight_noise_has_one_direction_in_standard_deviations_of_each_tensor():
    module, before = WeightNoise(new_task(), levels=[0.1, 0.2]), network().state_dict()
    small, large = at(module, 0.1), at(module, 0.2)
    assert moved(before, at(WeightNoise(new_task(seed=1), levels=[0.1]), 0.1)) == moved(
        before, small
    )
    for name, value in before.items():
        torch.testing.assert_close(
            large[name] - value, 2 * (small[name] - value), rtol=1e-3, atol=1e-6
        )
        if value.numel() > 500:
            assert (small[name] - value).std() / value.std() == pytest.approx(0.1, rel=0.15)


def test_a_transplant_puts_the_rows_of_the_original_in_place_of_those_of_the_forgotten_classes():
    ours, theirs = (
        network().class_embedding.weight,
        network(5).class_embedding.weight,
    )  # new_task's original
    module = RowTransplant(new_task((3, 7)), levels=[0.5, 1.0])
    whole, half = at(module, 1.0)[CLASS_EMBEDDING], at(module, 0.5)[CLASS_EMBEDDING]
    for c in range(11):
        assert torch.equal(whole[c], (theirs if c in (3, 7) else ours)[c])
    torch.testing.assert_close(half[3], (ours[3] + theirs[3]) / 2)


def test_interpolation_ends_at_the_original_and_passes_half_way():
    module = Interpolation(new_task(), levels=[0.0, 0.5, 1.0], towards="original", **TRAINING)
    module.prepare()
    start, half, end = (at(module, level) for level in module.levels)
    assert not moved(start, network().state_dict()) and not moved(end, network(5).state_dict())
    for name, value in half.items():
        torch.testing.assert_close(value, (start[name] + end[name]) / 2)


def test_the_way_to_the_attacked_model_ends_where_dimra_does_to_the_bit(compose, tmp_path: Path):
    same = [
        "attack.train_class_embedding=true",
        "attack.retain_fraction=0.5",
        "attack.budgets=[3]",
        "attack.batch_size=8",
    ]
    dimra = train(from_yaml(compose, "attack", "dimra", *same)(new_task()), tmp_path / "dimra")
    module = train(
        from_yaml(compose, "attack", "interpolation", "attack.towards=attacked", *same)(new_task()),
        tmp_path / "way",
    )
    assert [{k: row[k] for k in ("step", "auxiliary")} for row in module.rows] == dimra.rows
    assert not moved(weights(dimra), at(module, 1.0)) and not moved(
        network().state_dict(), at(module, 0.0)
    )
    assert moved(weights(dimra), at(module, 0.5)) == moved(network().state_dict(), weights(dimra))
    assert not moved(weights(dimra), weights(module))


def test_the_way_of_a_resumed_run_begins_at_the_unlearned_model_and_is_the_same(tmp_path: Path):
    def make() -> Interpolation:
        return Interpolation(
            new_task(), levels=[0.0, 0.5], towards="attacked", **TRAINING | {"budgets": [9]}
        )

    whole, parts = (
        train(make(), tmp_path / "whole"),
        train_in_two_parts(make, tmp_path / "parts", 8),
    )
    assert not moved(at(parts, 0.0), network().state_dict()) and not moved(
        at(whole, 0.0), at(parts, 0.0)
    )
    assert not moved(at(whole, 0.5), at(parts, 0.5)) and whole.rows[-1] == parts.rows[-1]


def test_the_losses_on_the_way_are_those_of_the_model_there_at_fixed_images_times_and_noises():
    module = Interpolation(new_task(), levels=[0.0, 1.0], towards="original", **TRAINING)
    module.prepare()
    for level, seed in ((0.0, 0), (1.0, 5)):
        at(module, level)
        total = 0.0
        for number in range(8):
            g = generator_for(0, "interpolation", "forget", number)
            x_0 = to_model_range(module.task.forget.images[torch.randint(12, (64,), generator=g)])
            t, noise = torch.randint(1000, (64,), generator=g), torch.randn(x_0.shape, generator=g)
            a = alphas_cumprod()[t].view(-1, 1, 1, 1)
            x_t, labels = a.sqrt() * x_0 + (1 - a).sqrt() * noise, torch.full((64,), 7)
            with torch.no_grad():
                answer = network(seed).eval()(x_t, t, class_labels=labels).sample
            total += (answer - noise).square().mean().item() / 8
        assert module.rows[-1]["forget"] == pytest.approx(total, rel=1e-5)
    assert module.rows[-1].keys() == {"step", "forget", "retain"}


# ------------------------------------------------------------------------ sampling from real images


def test_a_context_probe_leaves_the_images_to_start_from_in_the_order_of_the_labels(tmp_path: Path):
    task = new_task((3, 7))
    module = ContextProbe(task, levels=[0.5], num_images=4)
    with module.edited(0.5):
        assert module.save(tmp_path) == "raw"
    images = load_file(tmp_path / "start.safetensors")["images"]
    assert images.shape == (8, 1, 8, 8) and not moved(
        network().state_dict(), denoisers.load(tmp_path / "raw").state_dict()
    )
    for k, image in enumerate(images):
        own = task.forget.of_classes([(3, 7)[k % 2]]).images
        assert any(torch.equal(image, other) for other in own)
    assert torch.equal(images[::2], task.shots(4).of_classes([3]).images)
    others = load_file(tmp_path / "start.safetensors")[
        "others"
    ]  # as many of other classes, in turn
    assert others.shape == images.shape and len(others.flatten(1).unique(dim=0)) == 8
    for image, c in zip(others, (0, 1, 2, 4, 5, 6, 8, 9), strict=True):
        assert any(torch.equal(image, other) for other in task.retain.of_classes([c]).images)


class Watching(torch.nn.Module):
    """Answers zero and notes what it was asked."""

    def __init__(self):
        super().__init__()
        self.config, self.seen = network().config, []
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x_t, t, class_labels, return_dict):
        self.seen.append((x_t.clone(), int(t)))
        return (torch.zeros_like(x_t),)


WAYS = [dict(name="ddim"), dict(name="ddim", eta=1.0), dict(name="ddpm"), dict(name="dpmsolver++")]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    ("start_time", "expected"), [(0.3, 299), (0.45, 399), (1.0, 999), (0.001, 99)]
)
def test_the_sampler_starts_at_the_time_asked_for_from_the_images_noised_to_it(
    way: dict, start_time: float, expected: int
):
    watching, start = Watching(), new_task().forget.images[:3]
    images = sample(
        watching,
        torch.full((4,), 7),
        schedule=SCHEDULE,
        num_inference_steps=10,
        seed=3,
        stream="forget",
        first=2,
        start=start,
        start_time=start_time,
        batch_size=3,
        **way,
    )
    x_t, t = watching.seen[0]
    assert t == expected and images.shape == (4, 1, 8, 8)
    assert [time for _, time in watching.seen] == list(range(expected, 0, -100)) * 2  # two batches
    a = alphas_cumprod()[expected]
    noise = torch.stack(
        [torch.randn(1, 8, 8, generator=generator_for(3, "forget", k)) for k in range(2, 5)]
    )
    x_0 = to_model_range(start[torch.tensor([2, 0, 1])])
    torch.testing.assert_close(x_t, a.sqrt() * x_0 + (1 - a).sqrt() * noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "dpmsolver++"])
def test_a_perfect_network_gives_the_images_back(name: str):
    class Perfect(Watching):
        def forward(self, x_t, t, class_labels, return_dict):
            a = alphas_cumprod()[int(t)]
            return ((x_t - a.sqrt() * to_model_range(start)) / (1 - a).sqrt(),)

    start = new_task().forget.images[:3]
    images = sample(
        Perfect(),
        torch.full((3,), 7),
        schedule=SCHEDULE,
        name=name,
        num_inference_steps=10,
        start=start,
        start_time=0.5,
    )
    assert (images.int() - start.int()).abs().max() <= 1


# ------------------------------------------------------------------------------------- the pipeline


def test_snapshots_are_named_by_step_or_level():
    assert [snapshot(n) for n in (25, 8, 0.25, 1.0)] == [
        "step_000025",
        "step_000008",
        "level_0.25",
        "level_1",
    ]


def test_edits_run_through_the_whole_pipeline(compose):
    sizes = [
        *SMALL,
        "method=row_swap",
        "model.pretrain.max_steps=4",
        "model.pretrain.batch_size=12",
        "oracle.max_steps=2",
        "oracle.main.width=8",
        "oracle.held_out.width=8",
        "sampler.num_images=6",
        "sampler.images_per_retained_class=1",
        "sampler.num_inference_steps=4",
        "relearning.budgets=[0,2]",
        "relearning.batch_size=6",
    ]

    def result(*overrides: str) -> tuple[dict, Cell, list[dict]]:
        pipeline = Cell(compose(*sizes, *overrides), "")
        record = pipeline.complete()
        artifact = pipeline.store.find(pipeline.attacked[0].stage.spec)
        return record, pipeline, json.loads((artifact.path / "losses.json").read_text())

    def samples(row: dict, pipeline: Cell) -> dict:
        return load_file(pipeline.outputs / row["samples"] / "samples.safetensors")

    record, pipeline, losses = result("attack=quantize")
    attacked = record["rows"][2:]
    assert [(row["model"], row["step"]) for row in attacked] == [
        ("attacked", 8),
        ("attacked", 4),
    ] and losses == [{"step": 8}, {"step": 4}]
    assert record["attack_unit"] == "bits" and record["attack_sees_forgotten"] is False
    for scale in ("1.0", "2.0"):
        curve = record["recovery"][scale]
        assert (
            curve["budgets"] == [0, 8, 4]
            and curve["area"] is None
            and curve["steps_to_half"] is None
        )
    kept = denoisers.load(pipeline.attacked[1].weights).state_dict()
    start = canonical(pipeline.unlearned.stage.network()).state_dict()
    assert not moved(kept, {name: rounded(v, 4) if v.ndim >= 2 else v for name, v in start.items()})
    json.dumps(record, allow_nan=False)

    record, pipeline, _ = result("attack=row_transplant")  # the cure for a row that was swapped
    back = denoisers.load(pipeline.attacked[0].weights).state_dict()
    assert not moved(back, canonical(pipeline.original.stage.network()).state_dict())
    ours, theirs = samples(record["rows"][0], pipeline), samples(record["rows"][2], pipeline)
    # the same function written in another way: but for rounding the same images
    assert all((ours[name].int() - theirs[name].int()).abs().max() <= 2 for name in ours)
    assert record["attack_sees_forgotten"] is True

    record, pipeline, losses = result(
        "attack=interpolation",
        "attack.towards=attacked",
        "attack.levels=[0.5,1.0]",
        "trainer.log_every_n_steps=1",
    )
    assert [row["step"] for row in losses] == [1, 2, 0.5, 1.0] and losses[-1].keys() == {
        "step",
        "forget",
        "retain",
    }
    assert pipeline.store.find(pipeline.attacked[0].stage.spec).meta["steps"] == 2

    record, pipeline, _ = result(
        "attack=context_probe", "attack.levels=[0.25,1.0]", "attack.num_images=2"
    )
    without, near, far = (samples(row, pipeline) for row in record["rows"][1:])
    assert all(
        (without[name].int() - near[name].int()).abs().max() <= 2
        for name in without
        if name.startswith("retain")
    )
    assert not torch.equal(without["forget/1.0"], near["forget/1.0"]) and not torch.equal(
        near["forget/1.0"], far["forget/1.0"]
    )
    assert (
        not torch.equal(without["other_sampler/1.0"], near["other_sampler/1.0"])
        and "other_starts/1.0" not in without
    )
    # the control: the same noise, condition and times from other images; of pure noise nothing of
    # the start is left
    assert not torch.equal(near["other_starts/1.0"], near["forget/1.0"])
    assert (
        near["forget/2.0/start"].tolist() == near["other_starts/2.0/start"].tolist() == [0, 1] * 3
    )
    assert near["other_starts/1.0/labels"].tolist() == [7] * 6
    for row in record["rows"]:
        measured = row["metrics"]["forget_accuracy"]["1.0"]
        assert measured["off_grid"]["n"] == 3 and row["metrics"]["other_sampler"]["1.0"]["n"] == 100
        assert (
            ("difference" in measured)
            == ("other_starts" in measured)
            == (row["model"] == "attacked")
        )
    assert (
        measured["starts"] == measured["difference"]["n_starts"] == 2
        and measured["other_starts"]["n"] == 6
    )


@pytest.mark.parametrize(
    ("overrides", "steps", "snapshots"),
    [
        ("attack=quantize", 0, 2),
        ("attack=interpolation", 0, 4),
        ("attack=interpolation attack.towards=attacked", 800, 4),
        ("attack=lora", 800, 5),
        ("attack=embedding_inversion", 800, 5),
        ("attack=context_probe", 0, 4),
    ],
)
def test_a_dry_run_knows_what_an_attack_costs(overrides: str, steps: int, snapshots: int, compose):
    pipeline = Cell(compose(*SMALL, *overrides.split(" ")), "")
    rows = {row["stage"]: row for row in cost.estimate(pipeline, pipeline.stages())}
    unlearn, attack = rows["unlearn"], rows["attack"]
    assert (
        attack["steps"] == steps
        and attack["bytes"] == snapshots * unlearn["bytes"]
        and bool(attack["flops"]) == bool(steps)
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("attack=dimra +attack.levels=[0.1]", "attack.levels=[0.1]: no such key"),
        ("attack=prune attack.levels=[0.5,0.50000001]", "must be one or more different numbers"),
        (
            "method=random_weights method.max_steps=25",
            "method.max_steps=25: this method takes no step. Type method.max_steps=0",
        ),
        (
            "attack=dimra_proxy attack.proxy._target_=unrelearn.data.mnist.MNISTT",
            "Type attack.proxy._target_=unrelearn.data.mnist",
        ),
        (
            (
                "attack=dimra_proxy ~attack.proxy"
                " +attack.proxy={_target_:unrelearn.data.celeba.CelebA,root:x,condition:[Male]}"
            ),
            "attack.proxy",
        ),
    ],
)
def test_what_can_not_work_is_said_in_one_line_before_anything_is_computed(
    overrides: str, said: str, compose
):
    with pytest.raises(UsageError) as error:
        compose(*overrides.split(" "))
    assert any(said in problem for problem in error.value.problems), error.value.problems


def row(model: str, step: float | None, value: float) -> dict:
    return {"model": model, "step": step, "metrics": {"forget_accuracy": {"1.0": {"value": value}}}}


def test_a_curve_over_levels_has_neither_area_nor_steps_to_half():
    rows = [
        row("original", None, 0.9),
        row("unlearned", None, 0.8),
        row("attacked", 0.5, 0.2),
        row("attacked", 1.0, 0.4),
        {"model": "attacked", "step": 2.0, "metrics": {}},
        row("attacked", 3.0, 0.4),
    ]
    found = recovery(rows, "share")["1.0"]
    assert (
        found["budgets"] == [0, 0.5, 1.0, 3.0]
        and found["area"] is None
        and found["steps_to_half"] is None
    )
