"""Files of a user that are broken: a yaml, the code of a method, what its losses return.

One line says which file and where, and whoever chose another option is not stopped by it.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command import TINY
from tiny import CONF, denoising, train

from unrelearn.config.kinds import every_attack_of, options
from unrelearn.errors import UsageError
from unrelearn.methods.finetune import Finetune

Complaint = Callable[..., list[str]]
MALFORMED = "_target_: unrelearn.methods.dimum.DiMUM\nmax_steps: 1\n  batch_size: 8\n"
OTHERS = ["forget=12", "method.memry=noise"]  # what else may be wrong
CODE = {
    "syntax": "class Mine:\n    def losses(self, t)\n        return {}\n",
    "imports": "import math\n\nimport no_such_package\n",
    "raises": "import re\n\nPATTERN = re.compile('(')\n",
    "empty": "from unrelearn.methods.dimum import DiMUM\n\n\nclass Yours(DiMUM):\n    pass\n",
    "plain": "class Mine:\n    pass\n",
    "annotated": (
        "from unrelearn.methods.dimum import DiMUM\n\n\nclass Mine(DiMUM):\n"
        "    def __init__(self, rate: 'Rat'):\n        pass\n"
    ),
}


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ beside a package `mine`, which the command and all checks read."""
    shutil.copytree(CONF, tmp_path / "conf")
    for name, module in list(sys.modules.items()):
        if name.startswith("unrelearn") and getattr(module, "CONF", None) == CONF:
            monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "conf"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def method(conf: Path, code: str, name: str = "mine") -> None:
    """conf/method/<name>.yaml, of a class Mine in mine/<name>.py."""
    (conf.parent / "mine" / f"{name}.py").write_text(code)
    keys = (conf / "method" / "finetune.yaml").read_text().partition("_target_: ")[2]
    yaml = f"_target_: mine.{name}.Mine\n{keys.partition(chr(10))[2]}"
    (conf / "method" / f"{name}.yaml").write_text(yaml)


def test_a_broken_file_stops_nobody_who_chose_another(conf: Path, complaint: Complaint):
    for group in ("method", "attack"):
        (conf / group / "broken.yaml").write_text(MALFORMED)
        (conf / group / "latin.yaml").write_bytes(b"name: \xe9\n")
        (conf / group / "none.yaml").touch()
        (conf / group / "listed.yaml").write_text("- a\n")
    method(conf, CODE["syntax"])
    lines = complaint("method=salun", "method.memory=noise", "attack=dimra", *OTHERS)
    assert [line.split(": ")[1] for line in lines] == ["method.memory=noise", *OTHERS[::-1]]
    lines = complaint("experiment=classification", "method=esd", "attack=lora", "+method.preset=x")
    assert len(lines) == 3 and "method.preset=x: no such preset; allowed: " in "".join(lines)
    assert "mine" not in options("method", "Denoising")
    assert "broken" not in every_attack_of(["experiment=broken", "attack=all"])


@pytest.mark.parametrize(("group", "other"), [("method", "dimum"), ("attack", "dimra")])
def test_a_malformed_yaml_that_is_chosen_is_named_with_its_line(
    conf: Path, complaint: Complaint, group: str, other: str
):
    (conf / group / "broken.yaml").write_text(MALFORMED)
    lines = complaint(f"{group}=broken", "forget=12")
    assert lines[0] == (
        f"error: {group}=broken: conf/{group}/broken.yaml, line 3: mapping values are not allowed"
        f" here. Mend that file, or type {group}={other}"
    )
    assert len(lines) == 2 and lines[1].startswith("error: forget=12: ")


def test_a_yaml_of_other_letters_is_named(conf: Path, complaint: Complaint):
    (conf / "method" / "latin.yaml").write_bytes(b"name: \xe9\n")
    (line,) = complaint("method=latin")
    assert line.startswith("error: method=latin: conf/method/latin.yaml: 'utf-8' codec can't")
    (conf / "method" / "latin.yaml").write_bytes(b"name: \x01\n")
    (line,) = complaint("method=latin")
    assert line.startswith("error: method=latin: conf/method/latin.yaml: unacceptable character")


def test_a_malformed_yaml_by_default_is_named_too(conf: Path, complaint: Complaint):
    (conf / "method" / "dimum.yaml").write_text(MALFORMED)
    (line,) = complaint()
    assert line.startswith("error: method=dimum: conf/method/dimum.yaml, line 3: ")
    assert line.endswith("or type method=original")
    (conf / "experiment" / "grid" / "mine.yaml").write_text("seed: [0\n")
    (line,) = complaint("experiment=grid/mine")
    assert line.startswith("error: experiment=grid/mine: conf/experiment/grid/mine.yaml, line 2: ")


@pytest.mark.parametrize(
    ("name", "why", "advice"),
    [
        ("syntax", "mine/syntax.py, line 2: expected ':'", "Mend it, or type method=dimum"),
        ("imports", "mine/imports.py, line 3: ModuleNotFoundError: No module named", "Mend it"),
        ("raises", "mine/raises.py, line 3: error: missing ), unterminated", "Mend it"),
        ("empty", "mine/empty.py has no Mine; it has Yours", "Mend conf/method/empty.yaml, or"),
        ("plain", "must be a class with identity, settings, losses", "Mend conf/method/plain"),
        ("annotated", "its arguments can not be read (NameError: name 'Rat'", "Mend conf/method"),
    ],
)
def test_what_is_wrong_with_the_code_of_a_method_is_said_with_its_place(
    conf: Path, complaint: Complaint, name: str, why: str, advice: str
):
    method(conf, CODE[name], name)
    (line,) = complaint(f"method={name}")
    assert line.startswith(f"error: method._target_=mine.{name}.Mine: {why}"), line
    assert advice in line


def test_a_method_whose_file_is_missing_or_whose_yaml_names_none(conf: Path, complaint: Complaint):
    method(conf, "")
    (conf.parent / "mine" / "mine.py").unlink()
    (line,) = complaint("method=mine")
    assert line == (
        "error: method._target_=mine.mine.Mine: there is no module mine.mine. Mend"
        " conf/method/mine.yaml, or type method=dimum"
    )
    (conf / "method" / "mine.yaml").write_text("max_steps: 10\nbatch_size: 8\n")
    (line,) = complaint("method=mine")
    assert line == (
        "error: method._target_: conf/method/mine.yaml names no class. Add a line _target_:"
        " MODULE.CLASS to it, or type method=dimum"
    )


@pytest.mark.parametrize(
    ("name", "why", "typed"),
    [
        ("unrelearn.methods.dimum.DiMUMM", "has no DiMUMM; it has DiMUM", "methods.dimum.DiMUM"),
        ("unrelearn.method.dimum.DiMUM", "has no dimum; it has", "Type method._target_=unrelearn."),
        ("unrelearning.DiMUM", "there is no module unrelearning.", "unrelearn.methods.dimum.DiMUM"),
        ("dimum", "must be the dotted name", "Type method._target_=unrelearn.methods.dimum.DiMUM"),
        ("null", "names no class", "type method=dimum"),
    ],
)
def test_a_name_that_was_typed_gets_another_to_type(
    complaint: Complaint, name: str, why: str, typed: str
):
    (line,) = complaint(f"method._target_={name}")
    assert line.startswith("error: method._target_") and why in line and typed in line


def test_a_measurement_that_is_broken_may_be_left_out(conf: Path, complaint: Complaint):
    (conf / "eval" / "mine.yaml").write_text("mine: {_target_: mine.mine.run}\n")
    (conf.parent / "mine" / "mine.py").write_text("def run(evidence)\n")
    (line,) = complaint("+eval=mine")
    assert line.startswith("error: eval.mine._target_=mine.mine.run: mine/mine.py, line 1: ")
    assert line.endswith("or type ~eval.mine")


def test_a_measurement_is_a_function_of_what_was_measured(complaint: Complaint):
    (line,) = complaint("+eval.mine={_target_: os.system, command: ls}")
    assert line == (
        "error: eval.mine._target_=os.system: its first argument must be evidence, what was"
        " measured. Type eval.mine._target_=unrelearn.evals.fd_oracle.run"
    )


RETURNED = {
    "None": (lambda loss: None, "None"),
    "tensor": (lambda loss: loss.mean(), "a tensor of shape ()"),
    "number": (lambda loss: {"retain": 1.0}, "retain: 1.0"),
    "empty": (lambda loss: {}, "{}"),
    "per image": (lambda loss: {"forget": loss}, "forget: a tensor of shape (4,)"),
    "no gradient": (
        lambda loss: {"forget": loss.mean().detach()},
        "forget: a tensor of shape (), of which none depends on a weight",
    ),
}


@pytest.mark.parametrize(("returned", "got"), RETURNED.values(), ids=RETURNED)
def test_losses_that_are_none_are_said_in_a_line(returned: Callable, got: str, tmp_path: Path):
    class Mine(Finetune):
        def losses(self, t):
            return returned(t.loss(t.draw("retain", t.task.retain)))

    with pytest.raises(UsageError) as error:
        train(denoising(Mine(max_steps=1, batch_size=4, learning_rate=1e-3)), tmp_path)
    assert error.value.problems == [
        "Mine.losses must return a dict of tensors with one number each, got"
        f" {got}. End it with return {{'forget': loss.mean()}}"
    ]


def test_they_end_a_run_with_that_line(conf: Path, complaint: Complaint):
    code = "from unrelearn.methods.finetune import Finetune\n\n\nclass Mine(Finetune):\n"
    method(conf, f"{code}    def losses(self, t):\n        t.draw('retain', t.task.retain)\n")
    words = [*TINY, "model.pretrain.max_steps=1", "stages=[pretrain,unlearn]", "method=mine"]
    (line,) = complaint(*words, computes=True)
    assert line.startswith("error: Mine.losses must return a dict of tensors") and "None" in line
