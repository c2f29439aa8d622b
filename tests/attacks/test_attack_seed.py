"""The attack's own seed: it redraws what the attacker draws, and nothing of the model or of the
measurement.
"""

import json
from pathlib import Path

import pytest
import torch
from formulas import at
from runs import Cell
from tiny import SMALL, denoising, new_task, tensors, train
from torch import Tensor

from unrelearn.attacks.context_probe import ContextProbe
from unrelearn.attacks.dimra import DiMRA
from unrelearn.attacks.dimra_aux import DiMRAAux
from unrelearn.attacks.dimra_proxy import DiMRAProxy
from unrelearn.attacks.embedding_inversion import EmbeddingInversion
from unrelearn.attacks.few_shot import FewShot
from unrelearn.attacks.interpolation import Interpolation
from unrelearn.attacks.lora import LoRA
from unrelearn.attacks.weight_noise import WeightNoise
from unrelearn.data.digits import Digits
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.denoising import Denoising
from unrelearn.errors import UsageError
from unrelearn.randomness import generator_for

TRAINING = dict(budgets=[3], batch_size=8, learning_rate=1e-3)


MAKE = {
    "dimra": lambda **seed: denoising(DiMRA(retain_fraction=0.3, **TRAINING, **seed), new_task()),
    "dimra_aux": lambda **seed: denoising(
        DiMRAAux(source="original", images_per_class=2, num_inference_steps=2, **TRAINING, **seed),
        new_task(),
    ),
    "dimra_proxy": lambda **seed: denoising(
        DiMRAProxy(proxy=Digits(), max_images=30, **TRAINING, **seed), new_task()
    ),
    "few_shot": lambda **seed: denoising(FewShot(num_images=3, **TRAINING, **seed), new_task()),
    "embedding_inversion": lambda **seed: denoising(
        EmbeddingInversion(num_images=3, **TRAINING, **seed), new_task()
    ),
    "lora": lambda **seed: denoising(LoRA(rank=2, num_images=3, **TRAINING, **seed), new_task()),
    "context_probe": lambda **seed: denoising(
        ContextProbe(levels=[0.5], num_images=3, **seed), new_task()
    ),
    "weight_noise": lambda **seed: denoising(WeightNoise(levels=[0.5], **seed), new_task()),
    "interpolation": lambda **seed: denoising(
        Interpolation(levels=[0.5], towards="attacked", retain_fraction=0.3, **TRAINING, **seed),
        new_task(),
    ),
}


def drawn(module: Denoising) -> dict[str, Tensor]:
    """Everything an attacker draws: data, a batch of the first step, and what is added to the
    weights before it.
    """
    module.prepare()
    found = {
        name: getattr(module.method, name).images
        for name in ("auxiliary", "shots")
        if hasattr(module.method, name)
    }
    if isinstance(module.method, ContextProbe):
        return found | {"start": module.method.images}
    if isinstance(module.method, WeightNoise):
        return found | {
            name: value for name, value in at(module, 0.5).items() if value.ndim > 1
        }  # the others are constants
    found |= {
        name: value for name, value in module.network.named_parameters() if name.endswith(".A")
    }
    return found | tensors(module.draw("auxiliary", module.task.retain))


@pytest.mark.parametrize("name", MAKE)
def test_another_seed_redraws_all_that_the_attacker_draws_and_none_is_the_seed_nought(name: str):
    default, nought, one, two = (
        drawn(MAKE[name](**seed)) for seed in ({}, {"seed": 0}, {"seed": 1}, {"seed": 2})
    )
    assert default
    for what, value in default.items():
        assert torch.equal(value, nought[what]), what
        for a, b in ((value, one[what]), (one[what], two[what])):
            assert a.shape == b.shape and not torch.equal(a, b), what


def test_the_streams_of_seed_nought_are_those_of_the_run_and_an_attacks_seed_is_no_runs_seed():
    def first(task_seed: int, seed: int) -> Tensor:
        module = denoising(DiMRA(seed=seed, **TRAINING), new_task(seed=task_seed))
        return module.draw("auxiliary", module.method.auxiliary).noise

    g = generator_for(0, "attack", "auxiliary", 0)
    torch.randint(108, (8,), generator=g)
    torch.randint(1000, (8,), generator=g)
    assert torch.equal(first(0, 0), torch.randn((8, 1, 8, 8), generator=g))
    seen = [first(a, b) for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert not any(torch.equal(a, b) for k, a in enumerate(seen) for b in seen[:k])


def test_the_losses_on_the_way_to_another_model_are_measured_on_the_same_images(tmp_path: Path):
    rows = []
    for seed in (0, 1):
        module = train(MAKE["interpolation"](seed=seed), tmp_path / str(seed))
        with module.edited(0.0):
            rows.append(module.rows[-1])
    assert rows[0] == rows[1]  # the unlearned model, whatever the attack made of it


def test_what_is_kept_for_many_attacks_is_kept_for_each_seed():
    asked, task = [], new_task()
    task.cached = lambda name, settings, compute: asked.append((name, settings)) or compute()
    for seed in (0, 1):
        denoising(DiMRA(seed=seed, fisher_ratio=1.0, fisher_samples=2, **TRAINING), task).prepare()
    assert [settings.get("attack_seed") for _, settings in asked] == [None, None, 1, 1]


@pytest.mark.parametrize("attack", ["quantize", "prune", "row_transplant", "none"])
def test_attacks_that_draw_nothing_take_no_seed(attack: str, compose):
    assert "seed" not in compose(f"attack={attack}")["attack"]
    if attack != "none":
        with pytest.raises(UsageError, match=r"attack\.seed=1: no such key; allowed: levels"):
            compose(f"attack={attack}", "+attack.seed=1")
    assert (
        Cell(compose(f"attack={attack}"), "").name
        == Cell(compose(f"attack={attack}", "relearning.seed=3"), "").name
    )


def test_the_way_to_the_original_has_no_seed_and_the_way_to_the_attacked_model_has(compose):
    def key(towards: str, seed: int) -> tuple[str, str]:
        pipeline = Cell(
            compose("attack=interpolation", f"attack.towards={towards}", f"relearning.seed={seed}"),
            "",
        )
        return pipeline.attacked[0].stage.spec.key, pipeline.name

    assert key("original", 0) == key("original", 1) and "-attack" not in key("original", 1)[1]
    assert key("attacked", 0) != key("attacked", 1) and "-seed0-attack1-" in key("attacked", 1)[1]


def test_three_attack_seeds_inside_one_model_seed_share_everything_but_the_attack(compose):
    sizes = [
        *SMALL,
        "model.pretrain.max_steps=4",
        "model.pretrain.batch_size=12",
        "method.max_steps=2",
        "method.batch_size=8",
        "oracle.max_steps=2",
        "oracle.main.width=8",
        "oracle.held_out.width=8",
        "sampler.num_images=4",
        "sampler.images_per_retained_class=1",
        "sampler.num_inference_steps=2",
        "relearning.budgets=[0,2]",
        "relearning.batch_size=6",
        "tracking=none",
    ]
    records, attacked = [], []
    for seed in (0, 1, 2):
        pipeline = Cell(compose(*sizes, f"relearning.seed={seed}"), "")
        records.append(pipeline.complete())
        attacked.append(denoiser.load(pipeline.attacked[-1].weights).state_dict())
    assert [record["attack_seed"] for record in records] == [0, 1, 2] and {
        record["seed"] for record in records
    } == {0}
    computed = [
        [stage["stage"] for stage in record["stages"] if stage["status"] == "computed"]
        for record in records
    ]
    assert {"pretrain", "unlearn", "oracle", "attack"} <= set(computed[0])
    assert set(computed[1]) == set(computed[2]) == {"attack", "samples", "evaluate"}
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert any(not torch.equal(value, attacked[b][name]) for name, value in attacked[a].items())
        assert records[a]["rows"][1]["evaluate"] == records[b]["rows"][1]["evaluate"]
    names = [record["name"] for record in records]
    assert (
        "-seed0-attack" not in names[0]
        and "-seed0-attack1-" in names[1]
        and "-seed0-attack2-" in names[2]
    )
    assert records[0]["attack_share_of_pretraining"] == 2 * 6 / (4 * 12)
    json.dumps(records, allow_nan=False)
