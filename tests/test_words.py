"""Words of the command line: what was typed decides, and what is suggested or kept can be typed
again.
"""

import shlex
import subprocess
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from unrelearn import config
from unrelearn.advice import command, shell, text, typed
from unrelearn.config.classes import doubtful
from unrelearn.errors import UsageError
from unrelearn.words import keep_names, separated, unreadable

GRID = SimpleNamespace(
    class_names=(
        "0_0",
        "0_1",
        "1_0",
        "1_1",
        "1_2",
        "2_0",
        "2_1",
        "2_2",
        "3_0",
        "3_1",
        "3_2",
        "4_0",
        "4_1",
    )
)
LOOKALIKES = SimpleNamespace(class_names=("1e3", "cat", "null", "true"))


@pytest.mark.parametrize(
    "word, kept",
    [
        ("forget=1_0", 'forget="1_0"'),
        ("forget=[1_0, 1_1]", 'forget=["1_0","1_1"]'),
        ("forget=1_0,1_1", 'forget="1_0","1_1"'),
        ("forget=true", 'forget="true"'),
        ("forget=null", 'forget="null"'),
        ("++forget=1e3", '++forget="1e3"'),
        ("forget=3", "forget=3"),
        ("forget=[3,5]", "forget=[3,5]"),
        ("forget=range(0,3)", "forget=range(0,3)"),
        ("forget='1_0'", "forget='1_0'"),
        ("forget=cat", "forget=cat"),
        ("seed=1_0", "seed=1_0"),
        ("-m", "-m"),
        ("paths.outputs=2026_01", 'paths.outputs="2026_01"'),
        ("paths.inception_weights=null", "paths.inception_weights=null"),
        ("tracking.tags=[1e3,a]", 'tracking.tags=["1e3",a]'),
        ("dataset.root=2024", 'dataset.root="2024"'),
        ("dataset.classes=[3,ship]", 'dataset.classes=["3",ship]'),
        ("dataset.names=[2020,age]", 'dataset.names=["2020",age]'),
        ("dataset.parties=[[2020],[1_0,age]]", 'dataset.parties=[["2020"],["1_0",age]]'),
        ("dataset.categorical={class:[0,1]}", "dataset.categorical={class:[0,1]}"),
        ("dataset.target=null", "dataset.target=null"),
        ("model.checkpoint=null", "model.checkpoint=null"),
        ("paths.outputs=~/out", 'paths.outputs="~/out"'),
    ],
)
def test_names_that_look_like_numbers_are_kept(word: str, kept: str):
    assert keep_names(word) == kept


@pytest.mark.parametrize(
    "word, dataset, named",
    [
        ("forget=1_0", GRID, ["1_0"]),
        ("forget=[1_0,1_1]", GRID, ["1_0", "1_1"]),
        ("forget=10", GRID, ["3_2"]),
        ("forget=true", LOOKALIKES, ["true"]),
        ("forget=null", LOOKALIKES, ["null"]),
        ("forget=1e3", LOOKALIKES, ["1e3"]),
        ("forget=[null,1e3,1]", LOOKALIKES, ["1e3", "cat", "null"]),
    ],
)
def test_the_class_whose_name_was_typed_is_forgotten(
    word: str, dataset: SimpleNamespace, named: list[str]
):
    value = OverridesParser.create().parse_override(keep_names(word)).value()
    assert [dataset.class_names[index] for index in config.forget_classes(value, dataset)] == named


@pytest.mark.parametrize(
    "value, advice",
    [
        (True, """Type 'forget="true"'"""),
        (None, """Type 'forget="null"'"""),
        (1000.0, """Type 'forget="1e3"'"""),
    ],
)
def test_a_value_that_has_lost_its_text_is_refused_with_what_works(value: object, advice: str):
    with pytest.raises(UsageError) as refused:
        config.forget_classes(value, LOOKALIKES)
    assert len(refused.value.problems) == 1 and refused.value.problems[0].endswith(advice)


def test_a_number_in_a_yaml_file_that_may_be_a_name_is_refused():
    (problem,) = doubtful(10, GRID)
    assert "1_0" in problem and "3_2" in problem and """Type 'forget="1_0"'""" in problem
    assert doubtful(3, GRID) == [] and doubtful([3, "1_0"], GRID) == []


@pytest.mark.parametrize(
    "name",
    ["cat [old]", "naïve", "US_$10", "it's", 'a"b', "a,b", "${seed}", "a\\", "7", "1_0", "x=y"],
)
def test_what_is_suggested_reaches_us_as_it_was_meant(name: str):
    advice = typed({"forget": name})
    shown = subprocess.run(
        ["bash", "-c", f"printf %s {advice}"], text=True, capture_output=True, check=True
    ).stdout
    value = OverridesParser.create().parse_override(keep_names(shown)).value()
    value = OmegaConf.to_container(OmegaConf.create({"forget": value}), resolve=True)["forget"]
    assert config.forget_classes(value, SimpleNamespace(class_names=(name, "other"))) == [0]


def test_a_line_break_in_a_name_breaks_no_line():
    advice = typed({"forget": "a\nb"})
    shown = subprocess.run(
        ["bash", "-c", f"printf %s {advice}"], text=True, capture_output=True, check=True
    ).stdout
    assert "\n" not in advice and shown == 'forget="a\nb"'
    with pytest.raises(UsageError) as refused:
        config.forget_classes("c", SimpleNamespace(class_names=("a\nb", "c\td")))
    assert all(problem.isprintable() for problem in refused.value.problems)


def test_the_command_that_is_kept_is_the_command():
    words = ["dataset.root=data/red pandas", 'forget=["$5","$10"]', "seed=1"]
    assert shlex.split(command(words)) == ["python", "run.py", *words]
    assert command(["seed=1", "forget=3"]) == "python run.py seed=1 forget=3"


@pytest.mark.parametrize(
    "word, holds, advice",
    [
        ("forget=naïve", "as it holds ï", """Type 'forget="naïve"'"""),
        ("dataset.root=data/müller", "as it holds ü", """Type 'dataset.root="data/müller"'"""),
        ("forget=cat [old]", "as it holds [", """Type 'forget="cat [old]"'"""),
        ("dataset.root=/a=b", "as it holds =", """Type 'dataset.root="/a=b"'"""),
        ("forget=[naïve,cat]", "as it holds ï", """Type 'forget=["naïve",cat]'"""),
        ("forget=naïve,cat", "as it holds ï", """Type 'forget="naïve",cat'"""),
        ("forget=cat (old)", "as it holds brackets", """Type 'forget="cat (old)"'"""),
        ("forget=it's", "as it holds '", "Type " + shell('forget="it\'s"')),
        ("forget", "KEY=VALUE", "forget=3"),
    ],
)
def test_a_word_that_can_not_be_read_is_shown_with_its_quotes(word: str, holds: str, advice: str):
    (line,) = unreadable([word])
    assert line.startswith(f"{word}: ") and holds in line and line.endswith(advice)
    if "Type '" in line:
        assert unreadable(shlex.split(advice)[1:]) == []


def test_options_may_stand_anywhere():
    words = [
        "dry_run=true",
        "--config-dir",
        "mine",
        "experiment=x",
        "-c",
        "job",
        "--config-name=y",
        "-m",
        "seed=0,1",
    ]
    assert separated(words) == (
        ["--config-dir", "mine", "-c", "job", "--config-name=y", "-m"],
        ["dry_run=true", "experiment=x", "seed=0,1"],
    )


@pytest.mark.parametrize("name", ["income ($)", "a:b", "x=y", "a,b", "[k] {l}", "a\\b", "50 %"])
def test_names_in_a_dictionary_are_read_as_they_are(name: str):
    (word,) = shlex.split(typed({"dataset.bounds": {name: [0, 100]}}))
    value = OverridesParser.create().parse_override(keep_names(word)).value()
    assert value == {name: [0, 100]}


def test_text_of_other_values():
    assert (
        text([1, "a", None, True, [0.5]]) == "[1,a,null,true,[0.5]]"
        and text({"a": "b c"}) == '{a:"b c"}'
    )
