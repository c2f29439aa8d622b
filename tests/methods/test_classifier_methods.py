"""What the configuration asks of all methods of classifiers, and a run that was stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf
from small_classifiers import SMALL, classifying, learned, new_task
from test_resume import assert_same, train_in_two_parts
from tiny import CONF, train

from unrelearn.classification.classifying import Classifying
from unrelearn.config.kinds import target_of, works
from unrelearn.errors import UsageError
from unrelearn.method import Method, Still

TRAINED = [
    "l1_sparse",
    "neggrad_plus",
    "random_mask",
    "weight_distortion",
    "scrub",
    "bad_teacher",
    "boundary_shrink",
    "boundary_expand",
]
EDITS = ["ssd", "logit_mask", "temperature"]


def record(name: str) -> Method:
    """What the yaml says, at a small size."""
    whole = OmegaConf.create(
        {
            "unlearning": SMALL | {"max_steps": 7, "retain_weight": 1.0},
            "model": {"pretrain": {"label_dropout": 0.0}},
            "train_class_embedding": False,
            "method": OmegaConf.load(CONF / "method" / f"{name}.yaml"),
        }
    )
    return instantiate(OmegaConf.to_container(whole, resolve=True)["method"])


@pytest.mark.parametrize("name", TRAINED + EDITS)
def test_a_yaml_makes_a_method_of_classifiers(name: str):
    made, target = record(name), target_of("method", name)
    assert type(made) is target and target.__module__ == f"unrelearn.methods.{name}"
    assert works(target, "Classifying") and not works(target, "Denoising")
    assert isinstance(made, Still) == (made.max_steps == 0) == (name in EDITS)


def test_a_class_is_what_the_logit_mask_needs(compose: Callable[..., dict]):
    with pytest.raises(UsageError) as error:
        compose("experiment=classification", "method=logit_mask")
    (line,) = error.value.problems
    assert line.startswith("method=logit_mask: ") and "class:0" in line


@pytest.mark.parametrize("name", TRAINED)
def test_a_stopped_run_ends_with_the_same_bits(name: str, tmp_path: Path):
    def new() -> Classifying:
        return classifying(record(name), new_task(network=learned()))

    whole = train(new(), tmp_path / "whole")
    assert_same(whole, train_in_two_parts(new, tmp_path / "parts", 5))
