"""What holds of every input, tried on thousands that hypothesis makes: names of classes, and values
of every key.

Nothing but UsageError may be raised, each of its problems is one line, and never is another class
forgotten than was named.
"""

import copy
import json
import shlex
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from tiny import ATTACKS, CONF, METHODS

from unrelearn import check, config
from unrelearn.advice import shell, text, typed
from unrelearn.config import classes
from unrelearn.errors import UsageError
from unrelearn.words import UNREADABLE, keep_names, read, unreadable

PARSER = OverridesParser.create()
FIXED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# what a folder may be called, though some parser takes it for something else than a name
ODD = (
    "0",
    "1",
    "10",
    "1_0",
    "1_1",
    "01",
    "0x10",
    "0o7",
    "1e3",
    "1.0",
    "1.50",
    "-1",
    "+1",
    "1:30",
    "true",
    "True",
    "null",
    "Null",
    "yes",
    "on",
    "nan",
    "inf",
    "-inf",
    "~",
    "None",
    "$5",
    "US_$10",
    "${seed}",
    "$",
    "[cat]",
    "cat [old]",
    "{a:b}",
    "(x)",
    "range(0,3)",
    "a,b",
    "a=b",
    "naïve",
    "猫",
    "cat dog",
    "it's",
    '"cat"',
    "a\\",
    "\\'",
    "a\nb",
    "\t",
    "-",
    "--",
    "=",
    "!",
    "#",
    "%s",
    "*",
    "\udcff",
    "cat",
    "dog",
)
TEXTS = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8)
NAMES = st.sets(
    st.one_of(st.sampled_from(ODD), TEXTS.filter(lambda name: not name.startswith("."))),
    min_size=3,
    max_size=6,
)


def one_line_each(problems: list[str]) -> None:
    assert problems and all(problem.isprintable() for problem in problems), problems


def value_of(word: str) -> object:
    """What Hydra makes of a choice; as run.py hands it over."""
    value = PARSER.parse_override(keep_names(word)).value()
    return OmegaConf.to_container(OmegaConf.create({"forget": value}), resolve=True)["forget"]


def forgotten(value: object, names: list[str]) -> list[str] | None:
    """The classes that are forgotten, or None if that is refused, with a line for each problem."""
    try:
        return [
            names[index]
            for index in config.forget_classes(value, SimpleNamespace(class_names=names))
        ]
    except UsageError as error:
        one_line_each(error.problems)
        return None


@settings(FIXED, max_examples=150)
@given(NAMES)
def test_the_advice_for_a_class_names_this_class(names: set[str]):
    names = sorted(names)
    for name in names:
        word = f"forget={text(name, name=True)}"
        assert forgotten(value_of(word), names) == [name], word
        advice = typed({"forget": name})
        assert advice.isprintable() and (not word.isprintable() or shlex.split(advice) == [word])
    word = f"forget={text(names[1:], name=True)}"
    assert forgotten(value_of(word), names) == names[1:], word


@settings(FIXED, max_examples=150)
@given(NAMES)
def test_a_class_typed_without_quotes_is_this_class_or_refused(names: set[str]):
    """What is no quote, bracket, comma, backslash or interpolation of Hydra's language stands for
    itself.
    """
    names = sorted(names)
    for name in names:
        if name != name.strip() or set(name) & set("\"'[]{}(),\\") or "${" in name:
            continue
        word = keep_names(f"forget={name}")
        if problems := unreadable([word]):
            one_line_each(problems)
            advice = problems[0].partition(" Type ")[2]
            if name.isprintable():
                assert forgotten(value_of(shlex.split(advice)[0]), names) == [name], advice
        else:
            assert forgotten(value_of(word), names) == [name], word


@settings(FIXED, max_examples=150)
@given(NAMES)
def test_a_class_named_in_a_yaml_file_is_this_class_or_refused(names: set[str]):
    names = sorted(names)
    for name in names:
        value = classes._yaml(name)
        if isinstance(value, str | list | dict) or value is UNREADABLE:
            continue  # quotes, comments and brackets of yaml
        problems = classes.doubtful(value, SimpleNamespace(class_names=names))
        assert problems or forgotten(value, names) in (None, [name]), (name, value)


@settings(FIXED, max_examples=300)
@given(st.text(max_size=12))
def test_any_text_is_read_as_it_was_quoted(value: str):
    assert read(text(value)) == value
    assert shell(value).isprintable()


# ---- values of every key
# ----------------------------------------------------------------------------------------------


class Configurations(dict):
    """Of the default, of each method and attack in its place, and of a folder of images; composed
    once.
    """

    def __repr__(self) -> str:  # hypothesis prints the arguments of a test that fails
        return "composed"


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Configurations:
    root = tmp_path_factory.mktemp("images")
    for name in ("cat", "dog", "fish"):
        (root / name).mkdir()
        for shade in range(3):
            Image.new("RGB", (8, 8), (shade, shade, shade)).save(root / name / f"{shade}.png")
    default = config.composed(["dry_run=true", "trainer.accelerator=cpu"])
    folder = config.composed(
        [
            "dry_run=true",
            "dataset=folder",
            f"dataset.root={root}",
            "model=unet_tiny",
            "dataset.image_size=8",
            "forget=cat",
            "tracking=none",
        ]
    )
    found = Configurations(default=default, folder=folder)
    for group, options in (("method", METHODS), ("attack", ATTACKS)):
        for option in options:
            found[option] = copy.deepcopy(default)
            OmegaConf.set_struct(found[option], False)
            found[option][group] = OmegaConf.load(CONF / group / f"{option}.yaml")
    return found


def keys(node: object, key: str = ""):
    for name, value in node.items() if isinstance(node, dict) else ():
        below = f"{key}.{name}" if key else name
        yield below
        yield from keys(value, below)


NUMBERS = st.one_of(
    st.sampled_from(
        [
            0,
            -1,
            1,
            2,
            7,
            10**6,
            2**53,
            2**53 + 1,
            10**400,
            0.0,
            -0.0,
            0.5,
            1.0,
            1.5,
            -1e-9,
            1e-320,
            1e308,
            float("inf"),
            float("-inf"),
            float("nan"),
        ]
    ),
    st.integers(),
    st.floats(),
)
WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "auto",
            "cpu",
            "ddp",
            "os.system",
            "os",
            "nothing.there",
            "unrelearn.data.digits.Digits",
            "???",
            "1",
            "unrelearn.methods.salun.SalUn",
            "unrelearn.attacks.dimra.DiMRA",
            "${seed}",
            "${",
            "${nothing}",
            "a" * 300,
            "~nobody-of-this-name",
            "a\nb",
            "\0",
        ]
    ),
    st.text(max_size=6),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.one_of(
    LEAVES,
    LEAVES,
    st.lists(LEAVES, max_size=3),
    st.dictionaries(st.text(max_size=3), LEAVES, max_size=2),
)


@settings(FIXED, max_examples=300)
@given(data=st.data())
def test_any_value_of_any_key_is_taken_or_refused_in_lines(
    data, composed: Configurations, monkeypatch, tmp_path: Path
):
    """Through the same functions as a command: the schema of Hydra, `explain`, and `validate`."""
    monkeypatch.chdir(tmp_path)  # whatever is given as a path is made here
    changed = copy.deepcopy(composed[data.draw(st.sampled_from(sorted(composed)), "configuration")])
    known = sorted(keys(OmegaConf.to_container(changed)))
    for key, value in data.draw(
        st.dictionaries(st.sampled_from(known), VALUES, min_size=1, max_size=6), "overrides"
    ).items():
        if isinstance(value, str) and key in check.PATHS:
            value = value.replace("/", "").replace("..", "")
        try:
            OmegaConf.update(changed, key, value, force_add=True)
        except (OmegaConfBaseException, OverflowError, AttributeError) as error:
            one_line_each(config.explain(error, [f"{key}={text(value)}"]))
        except AssertionError:  # of OmegaConf, below what is null by now: tests/test_cli.py
            continue
    try:
        cfg = config.validate(changed)
    except UsageError as error:
        one_line_each(error.problems)
    else:
        json.dumps(asdict(cfg), allow_nan=False)  # as it is hashed and written
        assert all(getattr(cfg, group)["_target_"] for group in ("dataset", "method", "attack"))
