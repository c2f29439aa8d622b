"""The arguments of a yaml against fields and signatures: all problems at once, a line each."""

import math
from typing import Annotated, Literal, Protocol

import pytest
from pydantic import Field

from unrelearn.arguments import bounds, check_arguments, check_value, error_of, wording
from unrelearn.attacks.prune import Prune
from unrelearn.attacks.quantize import Quantize
from unrelearn.data.folder import Folder
from unrelearn.evals.precision_recall import run
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.siss import SISS
from unrelearn.ranges import Count, Positive, Probability, Rate, Seed, Share, Steps, Weight

GIVEN = dict(_target_="x", max_steps=1, batch_size=8, learning_rate=1e-3)


def test_eight_problems_of_one_method_are_named_at_once():
    problems = check_arguments(
        "method",
        DiMUM,
        GIVEN
        | dict(
            memory="dreams",
            memory_weight="2",
            memory_size=0,
            plateau_tolerance=1.5,
            learning_rate=True,
            blocks="up",
            grad_clip=math.inf,
            memry_weight=3,
        ),
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "method.learning_rate=True",
        "method.memory=dreams",
        "method.memory_weight=2",
        "method.memory_size=0",
        "method.plateau_tolerance=1.5",
        "method.blocks=up",
        "method.grad_clip=inf",
        "method.memry_weight=3",
    ]
    assert problems[1].endswith("generated, noise. Type method.memory=another_class")
    assert problems[2].endswith("must be a number. Type method.memory_weight=1.0")
    assert problems[3].endswith("must be at least 1. Type method.memory_size=1")
    assert problems[4].endswith("must be between 0 and 1. Type method.plateau_tolerance=1")
    assert "must be a list, each a word or null" in problems[5]
    assert problems[6].endswith("Type method.grad_clip=1000000000.0 for no limit")
    assert problems[7].endswith("Type method.memory_weight=3") and "no such key" in problems[7]


def test_what_is_missing_is_asked_for():
    assert check_arguments("method", DiMUM, GIVEN) == [
        "method.memory: is required. Type +method.memory=..., or add it to the yaml"
    ]
    (problem,) = check_arguments("method", SISS, GIVEN | {"mixture": 0.5})
    assert problem.startswith("method.forget_share: is required")


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (Share, [1, 0.5, 1e-9], [0, 0.0, 1.1, "1", True, None]),
        (Probability, [0, 1, 0.5], [-0.1, 1.1, False]),
        (Weight, [0, 3.5, 10**6], [-1e-9, "0"]),
        (Positive, [1, 1e-9], [0, -1]),
        (Rate, [0, 10, 1e-3], [11, -1, "1e-3"]),
        (Steps, [0, 5], [-1, 1.0, "5", True]),
        (Count, [1, 10**9], [0, 2.0, None]),
        (Seed, [0, 2**31], [-1, 2**31 + 1]),
        (Count | None, [None, 1], [0, "null"]),
        (list[int], [[], [1, 2]], [[1.5], ["1"], 3, (1, 2)]),
        (list[float], [[1, 2.5]], [[True], "few"]),
        (Literal["a", "b"], ["a"], ["c", None, ["a"]]),
        (bool, [True], [1, "true"]),
    ],
)
def test_types_are_strict_and_ranges_hold(kind: object, right: list, wrong: list):
    for value in right:
        assert check_value("method.x", value, kind) == [], value
    for value in wrong:
        (problem,) = check_value("method.x", value, kind)
        assert problem.startswith("method.x=") and "must be " in problem and "Type " in problem


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2**60, [1.0, math.nan]])
def test_a_number_that_is_none_is_one_problem(value: object):
    (problem,) = check_value("method.x", value, list[float] if isinstance(value, list) else Weight)
    assert "finite" in problem or "must be a number" in problem or "must be at most" in problem


def test_a_number_that_is_none_is_seen_in_a_dictionary_of_lists():
    for value in (math.nan, math.inf):
        given = {"class": [0, value]}
        (problem,) = check_value("dataset.categorical", given, dict[str, list[float]])
        assert problem.endswith("Type 'dataset.categorical={class:[0,1]}'"), problem


@pytest.mark.parametrize(
    "kind",
    [Share, Rate | None, Count, Annotated[float, Field(gt=0, le=0.99)], list[int], Literal["a"]],
)
def test_what_is_to_be_typed_is_allowed(kind: object):
    assert error_of(wording(kind)[1], kind) is None


def test_the_range_of_a_value_that_may_be_null_is_that_of_the_other():
    assert bounds(Share | None) == bounds(Share) == (0, 1, False)
    assert bounds(int) == (-math.inf, math.inf, True)


def test_an_object_of_its_own_is_described_by_its_target():
    class Loads(Protocol):
        def load(self) -> int: ...

    assert error_of({"_target_": "x.Y"}, Loads) is None
    for value in (5, {}, "x.Y"):
        (problem,) = check_value("attack.proxy", value, Loads)
        assert "must be an object, with its _target_" in problem


def test_functions_and_constructors_are_signatures_too():
    assert check_arguments("eval.pr", run, {"features": "oracle", "k": 3}, "evidence") == []
    (problem,) = check_arguments("eval.pr", run, {"features": "oracle", "k": 0}, "evidence")
    assert problem == "eval.pr.k=0: must be at least 1. Type eval.pr.k=1"
    problems = check_arguments("dataset", Folder, {"root": "x", "image_size": 2})
    assert problems == [
        "dataset.image_size=2: must be between 4 and 1024. Type dataset.image_size=4"
    ]


def test_a_key_that_another_choice_has_is_looked_for_there():
    def options_with(group: str, name: str) -> list[str]:
        return {"budgets": ["dimra"]}.get(name, [])

    (problem,) = check_arguments(
        "attack", Prune, {"levels": [0.5], "budgets": [1]}, options_with=options_with
    )
    assert problem == (
        "attack.budgets=[1]: no such key; allowed: levels. Type attack=dimra 'attack.budgets=[1]'"
    )
    (problem,) = check_arguments("attack", Quantize, {"levels": [4.5]})
    assert "a list, each a whole number" in problem
