"""What methods and attacks take over from the pretraining (loss_reduction, antithetic), and what a
step of each costs.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import Cell
from tiny import SMALL, TRAINED, UNET, denoising, from_yaml, new_task, tensors, train
from torch.utils.flop_counter import FlopCounterMode

from unrelearn import distributed
from unrelearn.attacks.dimra import DiMRA
from unrelearn.diffusion.denoising import DenoiserPretraining
from unrelearn.diffusion.kind import forward_cost
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.random_label import RandomLabel

STEPS = dict(batch_size=8, learning_rate=1e-3)
MADE = {
    "pretraining": lambda task: denoising(DenoiserPretraining(max_steps=1, **STEPS), task),
    "dimra": lambda task: denoising(DiMRA(budgets=[0, 1], **STEPS), task),
    "dimum": lambda task: denoising(
        DiMUM(memory="fixed_k", memory_weight=2.0, max_steps=1, **STEPS), task
    ),
    "random_label": lambda task: denoising(
        RandomLabel(retain_weight=3.0, max_steps=1, **STEPS), task
    ),
}


# ----------------------------------------------------------------------------------- loss_reduction


@pytest.mark.parametrize("name", MADE)
def test_a_sum_over_an_image_is_its_number_of_elements_times_the_mean(name: str):
    """Random labels alone mix a mean and a sum, as their authors do: their weight stands for it,
    and nothing is scaled.
    """

    def losses(reduction: str) -> dict[str, float]:
        module = MADE[name](replace(new_task(), loss_reduction=reduction))
        module.prepare()
        return {term: value.item() for term, value in module.method.losses(module).items()}

    mean, total = losses("mean"), losses("sum")
    factor = 1 if name == "random_label" else 1 * 8 * 8
    assert total == pytest.approx({term: factor * value for term, value in mean.items()}, rel=1e-5)
    assert all(value > 0 for value in mean.values())


# --------------------------------------------------------------------------------------- antithetic


def drawn(batch_size: int, antithetic: bool, *, passes: int = 1) -> dict[str, torch.Tensor]:
    """The global batch, or what this process has of it, put together from its passes."""
    module = denoising(
        Finetune(
            max_steps=1,
            batch_size=batch_size,
            learning_rate=1e-3,
        ),
        replace(new_task(), antithetic=antithetic),
    )
    module.accumulate, parts = passes, []
    for module.micro in range(passes):
        parts.append(tensors(module.draw("retain", module.task.retain)))
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_the_second_half_of_a_batch_has_the_times_opposite_to_the_first(n: int):
    ordinary, paired = drawn(n, False), drawn(n, True)
    first = n - n // 2
    assert paired["t"].tolist() == ordinary["t"].tolist()[:first] + [
        999 - t for t in ordinary["t"].tolist()[: n // 2]
    ]
    assert len(paired["t"]) == n and paired["t"].min() >= 0 and paired["t"].max() <= 999
    for key in ("x_0", "noise", "labels"):
        assert torch.equal(paired[key], ordinary[key])


@pytest.mark.parametrize("n", [8, 12])
@pytest.mark.parametrize("passes", [1, 2])
def test_processes_and_passes_share_the_pairs_of_one_batch(
    n: int, passes: int, monkeypatch: pytest.MonkeyPatch
):
    whole, parts = drawn(n, True), []
    for share in (slice(0, n // 2), slice(n // 2, n)):
        monkeypatch.setattr(distributed, "my_slice", lambda _, share=share: share)
        parts.append(drawn(n, True, passes=passes)["t"])
    assert torch.equal(torch.cat(parts), whole["t"])
    assert (parts[0] + parts[1]).tolist() == [999] * (n // 2)


# ------------------------------------------------------------------------------------- the pipeline


def test_the_recipe_reaches_methods_and_attacks_and_is_part_of_what_they_are(
    compose, tmp_path: Path
):
    tiny_run = [
        *SMALL,
        "model.pretrain.max_steps=3",
        "method.max_steps=2",
        "attack.budgets=[0,2]",
        "method.batch_size=8",
        "attack.batch_size=8",
        "trainer.log_every_n_steps=1",
        "stages=[pretrain,unlearn,attack]",
    ]
    start = Cell(compose(*tiny_run), "")
    start.complete()
    checkpoint = start.store.find(start.original.stage.spec).path

    def run(*overrides: str) -> tuple[Cell, list[dict]]:
        """All from the same weights: the imported ones."""
        pipeline = Cell(compose(*tiny_run, f"model.checkpoint={checkpoint}", *overrides), "")
        pipeline.complete()
        losses = [
            json.loads((pipeline.store.find(spec).path / "losses.json").read_text())[0]
            for spec in (pipeline.unlearned.stage.spec, pipeline.attacked[0].stage.spec)
        ]
        return pipeline, losses

    plain, mean = run()
    summed, total = run("model.pretrain.loss_reduction=sum")
    paired, _ = run("model.pretrain.antithetic=true")
    specs = [{p.unlearned.stage.key, p.attacked[0].stage.key} for p in (plain, summed, paired)]
    assert not specs[0] & specs[1] and not specs[0] & specs[2] and not specs[1] & specs[2]
    for name in ("retain", "memory"):
        assert total[0][name] == pytest.approx(64 * mean[0][name], rel=1e-5)
    assert total[1]["auxiliary"] == pytest.approx(
        64 * mean[1]["auxiliary"], rel=0.1
    )  # of models that differ a little
    for pipeline, expected in (
        (plain, ("mean", False)),
        (summed, ("sum", False)),
        (paired, ("mean", True)),
    ):
        for model in (None, pipeline.original, pipeline.unlearned):
            task = pipeline.task(model)
            assert (task.loss_reduction, task.antithetic) == expected


def test_the_pretraining_itself_follows_the_recipe(compose):
    def first_loss(*overrides: str) -> float:
        pipeline = Cell(
            compose(*SMALL, "model.pretrain.max_steps=1", "stages=[pretrain]", *overrides), ""
        )
        pipeline.complete()
        return json.loads(
            (pipeline.store.find(pipeline.original.stage.spec).path / "losses.json").read_text()
        )[0]["denoising"]

    mean, total, paired = (
        first_loss(),
        first_loss("model.pretrain.loss_reduction=sum"),
        first_loss("model.pretrain.antithetic=true"),
    )
    assert (
        total == pytest.approx(64 * mean, rel=1e-5)
        and paired != mean
        and paired == pytest.approx(mean, rel=0.5)
    )


# --------------------------------------------------------------------------------------- the passes


PLAIN = (
    "finetune",
    "retrain",
    "dimum",
    "gradient_ascent",
    "random_label",
    "salun",
    "dimra",
    "few_shot",
)


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, name in TRAINED if name in PLAIN]
)
def test_a_step_sends_so_many_batches_through_the_network_as_its_class_says(
    group: str, name: str, compose
):
    module = from_yaml(compose, group, name, batch_size=6)(new_task((3, 7)))
    module.prepare()
    images = {True: 0, False: 0}

    def count(network, given) -> None:
        images[torch.is_grad_enabled()] += len(given[0])

    module.network.register_forward_pre_hook(count)
    module.training_step(None, 0)
    assert (images[True], images[False]) == tuple(6 * batches for batches in module.method.passes)
    assert getattr(Cell(compose(f"{group}={name}")), group).passes == module.method.passes


@pytest.mark.parametrize(("group", "name"), TRAINED)
def test_a_step_costs_what_torch_counts_in_it(group: str, name: str, compose, tmp_path: Path):
    """Also with copies of the network, inner steps, or two gradients. What comes before the first
    step is not counted.

    A backward pass is a little less than twice the forward one: nobody asks for the gradient of the
    images.
    """
    module = from_yaml(compose, group, name, steps=1, batch_size=64)(new_task())
    module.prepare()
    module.prepare = lambda: None
    with FlopCounterMode(display=False) as counter:
        train(module, tmp_path)
    forward, _ = forward_cost(image_size=8, channels=1, num_classes=10, **UNET)
    trained, only_forward = module.method.passes
    assert 0.92 < counter.get_total_flops() / (64 * forward * (3 * trained + only_forward)) < 1.02
