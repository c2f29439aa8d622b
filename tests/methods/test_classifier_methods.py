"""What all methods of classifiers are asked: by the configuration, and by a run that was stopped."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from small_classifiers import SMALL, classifying, learned, new_task
from test_resume import assert_same, train_in_two_parts
from tiny import train

from unrelearn.classification.classifying import Classifying
from unrelearn.config import constructor_arguments
from unrelearn.config.kinds import needs, target_of
from unrelearn.errors import UsageError
from unrelearn.method import Method, Still

OF_ANY = ["l1_sparse", "neggrad_plus", "random_mask", "weight_distortion"]
TRAINED = [*OF_ANY, "scrub", "bad_teacher", "boundary_shrink", "boundary_expand"]
EDITS = ["ssd", "logit_mask", "temperature"]


def record(compose: Callable[..., dict], name: str, *words: str) -> Method:
    cfg = compose("experiment=classification", f"method={name}", "forget=class:3", *words)
    return instantiate(constructor_arguments(cfg["method"]), _convert_="all")


@pytest.mark.parametrize("name", TRAINED + EDITS)
def test_a_yaml_makes_a_method_for_the_models_that_it_is_for(
    name: str, compose: Callable[..., dict]
):
    made = record(compose, name)
    assert type(made) is target_of("method", name)
    assert needs(type(made)) == {"Training" if name in OF_ANY else "Classifying"}
    assert isinstance(made, Still) == (made.max_steps == 0) == (name in EDITS)


def test_a_denoiser_is_not_for_methods_of_classifiers(compose: Callable[..., dict]):
    with pytest.raises(UsageError, match="^method=scrub: is for another kind of model"):
        compose("method=scrub")


def test_a_class_is_what_the_logit_mask_needs(compose: Callable[..., dict]):
    with pytest.raises(UsageError) as error:
        compose("experiment=classification", "method=logit_mask")
    (line,) = error.value.problems
    assert line.startswith("method=logit_mask: ") and "class:3" in line


@pytest.mark.parametrize("name", TRAINED)
def test_a_stopped_run_ends_with_the_same_bits(
    name: str, compose: Callable[..., dict], tmp_path: Path
):
    words = [f"method.{key}={value}" for key, value in (SMALL | {"max_steps": 7}).items()]

    def new() -> Classifying:
        return classifying(record(compose, name, *words), new_task(network=learned()))

    whole = train(new(), tmp_path / "whole")
    assert_same(whole, train_in_two_parts(new, tmp_path / "parts", 5))
