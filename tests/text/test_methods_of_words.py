"""Every method and attack of denoisers, and those of words, on a model that reads captions."""

import copy
import math
from dataclasses import fields
from pathlib import Path

import pytest
from hydra.utils import instantiate
from tiny import EDITS, NO_TRAINING, moved, new_oracle, train
from tiny_text import network, new_task, prompting

from unrelearn.config import constructor_arguments
from unrelearn.config.kinds import options
from unrelearn.diffusion import denoiser
from unrelearn.method import Method

BATCHES = ("Denoising", "Captioned", "Prompting")
# projection_swap and given are refused by the configuration, and digits are no images of shapes
METHODS = sorted(
    {*options("method", BATCHES)} - {"projection_swap", "given", "original", "retrain"}
)
ATTACKS = sorted({*options("attack", BATCHES)} - {"dimra_proxy", "none"})
EDITED = (*EDITS, "encoder_transplant", "prompt_search")
STILL = (*NO_TRAINING, *EDITED, "uce", "token_swap")
# of what a method reads, so much
REDUCED = dict(
    fisher_samples=2,
    images_per_class=1,
    anchor_size=1,
    num_inference_steps=2,
    points=1,
    attack_steps=1,
    warmup_share=0.0,
)
# what they change of captions and of the encoder, which is public
OF_TABLE = ("row_swap", "token_swap")


def made(compose, group: str, name: str) -> Method:
    given = constructor_arguments(compose("experiment=text", f"{group}={name}")[group])
    sizes = (
        dict(max_steps=2, batch_size=8) if group == "method" else dict(budgets=[2], batch_size=8)
    )
    given |= {} if name in STILL else sizes
    record = instantiate(given, _convert_="all")
    for field in fields(record):
        if field.name in REDUCED:
            setattr(record, field.name, REDUCED[field.name])
    return record


def test_the_words_of_this_kind_are_among_them():
    assert {"uce", "token_swap", "forget_me_not", "receler", "adv_unlearn", "salun"} <= set(METHODS)
    assert {"encoder_transplant", "textual_inversion", "prompt_search", "dimra"} <= set(ATTACKS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_runs_and_leaves_the_public_encoder(name: str, compose, tmp_path: Path):
    task = new_task("small red", oracle=new_oracle(), network=network(3))
    module = prompting(made(compose, "method", name), task)
    before = copy.deepcopy(module.network.state_dict())
    train(module, tmp_path)
    assert all(math.isfinite(value) for row in module.rows for value in row.values())
    changed = moved(before, module.network.state_dict())
    public = {n for n in changed if n.startswith(denoiser.TABLE)}
    assert changed and bool(public) == (name in OF_TABLE)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_runs(name: str, compose, tmp_path: Path):
    attack, task = made(compose, "attack", name), new_task("small red")
    public = network()
    task.original = lambda: copy.deepcopy(public)
    module = prompting(attack, task)
    train(module, tmp_path)
    if name in EDITED:
        with module.edited(attack.levels[0]):
            module.save(tmp_path / "edited")
        written = denoiser.load(tmp_path / "edited" / "raw")
    else:
        assert all(math.isfinite(value) for row in module.rows for value in row.values())
        module.save(tmp_path)
        written = denoiser.load(tmp_path / "raw")
    # captions of what is retained mean what they meant
    kept = [c for c in range(97) if c not in task.forget_classes]
    difference = written.class_embedding.weight[kept] - public.class_embedding.weight[kept]
    assert difference.abs().max() < 1e-5
