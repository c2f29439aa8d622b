"""Equal effort: what is searched for every method, what a choice rests on, and that a row is made
once.
"""

import csv
import importlib.util
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from command import ROOT, TINY
from hydra.utils import get_object
from omegaconf import OmegaConf
from runs import Cell
from tiny import CONF, METHODS, NO_TRAINING

from unrelearn import arguments, tuned, tuning
from unrelearn.config import Sweep
from unrelearn.errors import UsageError

spec = importlib.util.spec_from_file_location("tune", ROOT / "scripts" / "tune.py")
tune = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tune)

RULES = tuning.read_rules(CONF)
SPACES = [name for name in tune.methods() if name in METHODS]
OWN = ("checkpoint_every", "sampler.second")  # of what tune.yaml says itself
SMALL = [word for word in TINY if not any(name in word for name in OWN)]
SMALL += ["unlearning.batch_size=8"]


def space_of(method: str) -> tuning.Space:
    target = OmegaConf.load(CONF / "method" / f"{method}.yaml")["_target_"]
    return tuning.read_space(CONF, method, RULES, get_object(target).passes)


# --------------------------------------------------------------------------------- what is searched


def test_every_method_that_trains_is_tuned_and_nothing_else():
    trained = set(METHODS) - set(NO_TRAINING) - {"retrain", "rescaled"}  # a reference and a control
    assert set(tune.methods()) == trained
    assert len(SPACES) >= 14


def test_all_get_as_much():
    assert (RULES.trials, RULES.passes, RULES.factor) == (24, 700, 30)
    assert RULES.learning_rate == [3e-5, 3e-3] and RULES.max_steps == [25, 50, 100, 200, 400]
    assert (RULES.forget, RULES.seeds) == (3, [100, 101])
    for method in SPACES:
        given = OmegaConf.load(CONF / "tune" / f"{method}.yaml")
        assert set(given) <= {"constants", "variant"}, method  # no other budget than that of all


@pytest.mark.parametrize("method", SPACES)
def test_draws_lie_in_the_declared_space(method: str):
    space = space_of(method)
    common = OmegaConf.load(CONF / "config.yaml").unlearning
    loaded = OmegaConf.load(CONF / "method" / f"{method}.yaml")
    preset = OmegaConf.create({"unlearning": common, "method": loaded}).method
    for name, constant in space.constants.items():
        assert preset[name] == constant.published and constant.source
        kind = arguments.parameters(get_object(preset["_target_"]))[name].annotation
        assert arguments.check_value(name, constant.low, kind) == []
        assert arguments.check_value(name, constant.high, kind) == []
    assert len(space.constants) <= 2 and len(space.variant) <= 1
    assert all(preset[name] in values for name, values in space.variant.items())
    draws = tuning.draw(space, RULES, 24)
    assert len(draws) == 24 and len({tuple(settings.items()) for settings in draws}) == 24
    for settings in draws:
        assert 3e-5 <= settings[tuning.RATE] <= 3e-3
        for name, constant in space.constants.items():
            assert constant.published / 30 <= settings[f"method.{name}"] <= constant.published * 30
        for name, values in space.variant.items():
            assert settings[f"method.{name}"] in values


@pytest.mark.parametrize("method", SPACES)
def test_no_trial_costs_more_than_700_forward_passes(method: str):
    target = OmegaConf.load(CONF / "method" / f"{method}.yaml")["_target_"]
    trained, only_forward = get_object(target).passes
    cost, space = 3 * trained + only_forward, space_of(method)
    assert space.most_steps * cost <= 700 < (space.most_steps + 1) * cost
    steps = {settings[tuning.STEPS] for settings in tuning.draw(space, RULES, 24)}
    assert steps == {min(steps, space.most_steps) for steps in RULES.max_steps}


@pytest.mark.parametrize(
    ("passes", "steps"),
    [
        ((2, 0), 116),
        ((1, 1), 175),
        ((1, 11), 50),
        ((6, 0), 38),
        ((1, 0), 233),
        ((2, 1), 100),
        ((2, 0.5), 107),
    ],
)
def test_the_cap_counts_a_backward_pass_as_two(passes: tuple, steps: int):
    assert tuning.affordable_steps(passes, 700) == steps


def test_the_trials_of_a_method_are_always_the_same_and_fewer_are_the_first_of_more():
    space = space_of("dimum")
    draws = tuning.draw(space, RULES, 24)
    assert tuning.draw(space, RULES, 24) == draws
    assert tuning.draw(space, RULES, 5) == draws[:5] and tuning.draw(space, RULES, 40)[:24] == draws
    assert draws[0] == {
        "unlearning.learning_rate": 0.00151,
        "unlearning.max_steps": 116,
        "method.memory_weight": 0.393,
        "method.memory": "another_class",
    }
    rates = sorted(settings[tuning.RATE] for settings in tuning.draw(space, RULES, 32))
    assert all(
        3e-5 * 10 ** (k / 16) * 0.99 <= rate <= 3e-5 * 10 ** ((k + 1) / 16) * 1.01
        for k, rate in enumerate(rates)
    )  # one in each part of the range, as Sobol's points are


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "constants: {eta: {published: 0.1, source: a, high: 3.1}}",
            "eta from 0.00333333 to 3.1: must lie within x1/30",
        ),
        ("constants: {eta: {published: 0.1, source: a, low: 0.003}}", "Type low: 0.00333, high: 3"),
        (
            "constants: {a: &c {published: 1.0, source: s}, b: *c, c: *c}",
            "3 constants and 0 variants; at most 2 and 1",
        ),
        ("constants: {}\nvariant: {a: [x], b: [y]}", "0 constants and 2 variants"),
    ],
)
def test_a_space_that_would_be_no_equal_effort_is_refused(tmp_path: Path, text: str, says: str):
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "any.yaml").write_text(text)
    with pytest.raises(UsageError, match=re.escape(says)):
        tuning.read_space(tmp_path, "any", RULES, (2, 0))


# --------------------------------------------------------------------------- what a choice rests on


class Guarded(dict):
    """Measurements of which only some may be looked at; each look is noted."""

    def __init__(self, allowed: dict, forbidden: tuple[str, ...]):
        super().__init__(allowed)
        self.forbidden = forbidden

    def __getitem__(self, key):
        assert key not in self.forbidden, f"{key} was read"
        return super().__getitem__(key)

    def get(self, key, default=None):
        return self[key] if key in self or key in self.forbidden else default

    def items(self):
        raise AssertionError("all of them were read")

    values = items


HELD_OUT = ("agreement", "held_out", "kid_oracle", "replacement", "entropy", "other_sampler")


def metrics(
    forget: tuple[float, float] = (0.0, 0.01), retained: float = 0.97, distance: float = 1.0
) -> Mapping:
    scales = {
        scale: Guarded({"value": value}, ("held_out", "off_grid", "other_starts", "hits"))
        for scale, value in zip(("1.0", "2.0"), forget, strict=True)
    }
    return Guarded(
        {
            "forget_accuracy": scales,
            "retain_accuracy": {"1.0": {"value": retained}},
            "fd_oracle": {"1.0": {"value": distance}},
        },
        HELD_OUT,
    )


def test_no_number_of_an_attack_or_of_the_held_out_classifier_is_read(compose: Callable):
    row = tuning.measured(metrics(), metrics(distance=0.9), RULES)
    assert row == {
        "unlearning_accuracy@1.0": "1.000000",
        "unlearning_accuracy@2.0": "0.990000",
        "retain_accuracy": "0.970000",
        "retain_accuracy_original": "0.970000",
        "fd_oracle": "1.000000",
        "fd_oracle_original": "0.900000",
        "admissible": "yes",
    }
    cfg = compose("method=dimum", *RULES.overrides)
    assert set(cfg["eval"]) == {"forget_accuracy", "retain_accuracy", "fd_oracle"}
    assert Cell(cfg, "").attacked == []
    assert (cfg["sampler"]["num_images"], cfg["sampler"]["images_per_retained_class"]) == (200, 20)


@pytest.mark.parametrize(
    ("changes", "yes"),
    [
        ({}, True),
        ({"forget": (0.01, 0.01)}, True),
        ({"forget": (0.0, 0.015)}, False),
        ({"forget": (0.015, 0.0)}, False),
        ({"distance": 1.3}, True),
        ({"distance": 1.31}, False),
        ({"retained": 0.1}, True),
        ({"distance": float("nan")}, False),
    ],
)
def test_admissible_is_unlearned_at_both_scales_and_as_near_as_the_original(
    changes: dict, yes: bool
):
    row = tuning.measured(metrics(**changes), metrics(), RULES)
    assert row["admissible"] == ("yes" if yes else "no")


def table(*trials: tuple, method: str = "dimum") -> list[tuning.Row]:
    """Made-up rows: (retained, distance) of each seed, None of a diverged one, "skipped" of one not
    run.
    """
    space, rows = space_of(method), []
    header = tuning.columns(space, [1, 2])
    for trial, (settings, seen) in enumerate(
        zip(tuning.draw(space, RULES, len(trials)), trials, strict=True)
    ):
        for seed, numbers in zip(RULES.seeds, seen, strict=True):
            result = (
                {"status": "skipped"}
                if numbers == "skipped"
                else {"status": "diverged", "admissible": "no"}
            )
            if isinstance(numbers, tuple):
                row = tuning.measured(
                    metrics(retained=numbers[0], distance=numbers[1]), metrics(), RULES
                )
                result = {"status": "finished", **row}
            row = {
                "trial": str(trial),
                "seed": str(seed),
                **result,
                "command": tuning.command(space, RULES, settings, seed, []),
            }
            rows.append({name: row.get(name, "") for name in header})
    return rows


GOOD = [
    ((0.90, 1.0), (0.94, 1.1)),
    ((0.99, 1.0), (0.99, 1.4)),
    ((0.98, 2.0), "skipped"),
    ((0.95, 1.0), (0.95, 1.0)),
    (None, "skipped"),
    ((0.96, 1.1), (0.94, 1.1)),
    ((0.5, 1.0), (0.5, 1.0)),
]


def test_the_largest_retained_accuracy_among_the_admissible_is_chosen():
    rows = table(*GOOD)
    # 1 misses the condition on the second seed, 2 on the first; 3 and 5 are equal but for the
    # distance
    assert [trial[0]["trial"] for trial in tuning.ranking(rows, RULES, 7)] == ["3", "5", "0", "6"]
    assert [trial[0]["trial"] for trial in tuning.ranking(rows, RULES, 3)] == ["0"]
    lines = list(csv.DictReader(tuned.chosen({"dimum": rows}, RULES, 7).splitlines()))
    assert [(line["place"], line["trial"], line["admissible"]) for line in lines] == [
        ("1", "3", "4"),
        ("2", "5", "4"),
        ("3", "0", "4"),
    ]
    assert lines[0]["settings"].split() == tuning.in_words(
        tuning.draw(space_of("dimum"), RULES, 4)[3]
    )
    assert "| dimum | 4 | 3: learning_rate " in tuned.table({"dimum": rows}, RULES, 7)


def test_no_admissible_setting_is_a_result():
    rows = table(*[((0.99, 2.0), "skipped")] * 23, ((0.9, 1.0), (0.9, 1.4)))
    assert "dimum,,,0,,,no admissible setting in 24" in tuned.chosen({"dimum": rows}, RULES, 24)
    line = "| dimum | 0 | no admissible setting in 24: 24 unlearn, the nearest with |"
    assert line in (text := tuned.table({"dimum": rows}, RULES, 24))
    assert text.splitlines()[-1].endswith(" | 90.0 | 1.00 | |")  # of the first seed


def test_a_method_that_never_unlearns_has_no_nearest_trial():
    rows = table(*[((0.99, 1.0), "skipped")] * 24)
    for row in rows:
        row |= {name: "0.5" for name in row if name.startswith(tuning.ACCURACY) and row[name]}
    text = tuned.table({"dimum": rows}, RULES, 24)
    assert text.endswith("| dimum | 0 | no admissible setting in 24: none unlearns | | | | |\n")


def test_nothing_is_chosen_before_all_trials_were_run():
    rows = table(*GOOD)[:-1]
    assert tuned.chosen({"dimum": rows}, RULES, 7).count("\n") == 1
    assert "7 of 24 trials begun" in tuned.table({"dimum": rows}, RULES, 24)


def test_a_preset_is_the_chosen_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = shutil.ignore_patterns("tuned")  # what the search has left
    shutil.copytree(CONF, tmp_path / "conf", ignore=given)
    monkeypatch.setattr("unrelearn.config.composition.CONF", tmp_path / "conf")
    tables = {
        "dimum": table(*GOOD),
        "esd": table(*GOOD, method="esd"),
        "salun": table(*[((0.9, 9.0), "skipped")] * 7, method="salun"),
    }
    old = tmp_path / "conf" / "tuned" / "salun.yaml"
    old.parent.mkdir()
    old.write_text("of an earlier search")
    assert tuned.write_presets(old.parent, tables, RULES, 7) == ["salun"]
    names = {f"{method}{place}.yaml" for method in ("dimum", "esd") for place in ("", "_2", "_3")}
    assert {path.name for path in old.parent.iterdir()} == names
    drawn = tuning.draw(space_of("dimum"), RULES, 6)
    for words, trial in (
        (["method=dimum", "+tuned=dimum"], 3),
        (["+tuned=dimum"], 3),
        (["+tuned=dimum_2"], 5),
    ):
        cfg, _ = Sweep(["tracking=none", f"paths.outputs={tmp_path}", *words]).compose({})
        assert cfg.method["_target_"].endswith(".DiMUM") and cfg.attack["_target_"].endswith(
            ".DiMRA"
        )
        assert cfg.method["learning_rate"] == drawn[trial][tuning.RATE]
        assert cfg.method["max_steps"] == drawn[trial][tuning.STEPS]
        assert cfg.method["memory_weight"] == drawn[trial]["method.memory_weight"]
    sweep = Sweep(["tracking=none", f"paths.outputs={tmp_path}", "+tuned=dimum,esd"])
    assert sweep.compose({"+tuned": "esd"})[0].method["_target_"].endswith(".ESD")


# --------------------------------------------------------------------------------------- the script


def call(folder: Path, *words: str) -> int:
    return tune.main(
        [*words, *SMALL, "--outputs", str(folder / "outputs"), "--results", str(folder / "tuning")]
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trials of two methods at a tiny size, under a condition that some of them meet."""
    folder = tmp_path_factory.mktemp("tune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "read_rules", lambda conf: lenient())
        assert call(folder, "finetune", "dimum", "--trials", "2") == 0
    return folder


def lenient() -> tuning.Rules:
    """Any distance will do, and ten steps: of a network this small."""
    return tuning.Rules(**{**vars(RULES), "distance": 1e6, "max_steps": [2, 4]})


@pytest.fixture
def copied(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuning, "read_rules", lambda conf: lenient())
    shutil.copytree(searched / "tuning", tmp_path / "tuning")
    shutil.copyfile(searched / "tuning.md", tmp_path / "tuning.md")
    return tmp_path


def test_every_trial_is_a_row_with_the_command_that_makes_its_model(searched: Path):
    for method in ("dimum", "finetune"):
        rows = tuning.read_rows(searched / "tuning" / f"{method}.csv")
        assert [(row["trial"], row["seed"]) for row in rows] == [
            ("0", "100"),
            ("0", "101"),
            ("1", "100"),
            ("1", "101"),
        ]
        for row in rows:
            assert row["status"] in ("finished", "skipped")
            assert row["command"].startswith(
                f"python run.py method={method} forget=3 seed={row['seed']} attack=none "
            )
            if row["status"] == "finished" and row["trial"] == "0":
                words = tune.shlex.split(row["command"])[2:]
                cfg, _ = Sweep([*words, f"paths.outputs={searched / 'outputs'}"]).compose({})
                assert (
                    Cell(cfg, "").unlearned.stage.spec.key == row["unlearn"]
                    and float(row["seconds"]) > 0
                )
                kept = (searched / "outputs" / "artifacts" / "unlearn" / row["unlearn"]).exists()
                both = {r["admissible"] for r in rows if r["trial"] == row["trial"]} == {"yes"}
                assert kept == both
    page = (searched / "tuning.md").read_text()
    assert page.count("| dimum |") == page.count("| finetune |") == 1
    assert (searched / "tuning" / "chosen.csv").read_text().startswith("method,place,trial,")


@pytest.mark.parametrize("keep", [False, True])
def test_a_trial_that_misses_the_condition_is_not_run_on_the_second_seed(
    keep: bool, searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rules = tuning.Rules(**{**vars(lenient()), "distance": 0.0})
    monkeypatch.setattr(tuning, "read_rules", lambda conf: rules)
    stages = {path.name for path in (searched / "outputs" / "artifacts").iterdir()} - {
        "pretrain",
        "oracle",
    }
    shutil.copytree(
        searched / "outputs", tmp_path / "outputs", ignore=lambda folder, names: stages & set(names)
    )
    assert call(tmp_path, "finetune", "--trials", "1", *["--keep"] * keep) == 0
    first, second = tuning.read_rows(tmp_path / "tuning" / "finetune.csv")
    assert (first["status"], first["admissible"], second["status"]) == ("finished", "no", "skipped")
    assert first["unlearn"] and not any(
        second[name] for name in ("unlearn", "seconds", "retain_accuracy", "admissible")
    )
    made = {
        stage: len(list((tmp_path / "outputs" / "artifacts" / stage).glob("*/manifest.json")))
        for stage in ("pretrain", "unlearn", "samples", "evaluate")
    }
    assert made == {"pretrain": 2, "unlearn": int(keep), "samples": 2 + keep, "evaluate": 2 + keep}
    assert (
        "finetune,,,0,,,no admissible setting in 1"
        in (tmp_path / "tuning" / "chosen.csv").read_text()
    )


def test_what_the_csv_has_is_not_computed_again(copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tune, "make", lambda *_: pytest.fail("something was computed"))
    before = {path.name: path.read_text() for path in (copied / "tuning").iterdir()}
    (copied / "tuning" / "chosen.csv").unlink()
    assert call(copied, "dimum", "finetune", "--trials", "2") == 0  # there is no outputs folder
    assert {path.name: path.read_text() for path in (copied / "tuning").iterdir()} == before


def test_a_row_that_is_missing_is_made_and_no_other(
    copied: Path, searched: Path, monkeypatch: pytest.MonkeyPatch
):
    path = copied / "tuning" / "finetune.csv"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    shutil.copytree(searched / "outputs", copied / "outputs")
    asked, trial = [], tune.Workshop.trial
    monkeypatch.setattr(
        tune.Workshop,
        "trial",
        lambda self, method, settings, seed, command: (
            asked.append((method, seed)) or trial(self, method, settings, seed, command)
        ),
    )
    assert call(copied, "finetune", "--trials", "2") == 0
    assert asked in ([("finetune", 101)], [])  # none, if the condition was missed on the first seed
    ours, theirs = tuning.read_rows(path), list(csv.DictReader(whole.splitlines()))
    assert [{**row, "seconds": ""} for row in ours] == [{**row, "seconds": ""} for row in theirs]


def test_rows_of_another_space_are_refused_in_one_line(copied: Path, capsys: pytest.CaptureFixture):
    path = copied / "tuning" / "dimum.csv"
    weight = re.search(r"method\.memory_weight=\S+", path.read_text())[0]
    path.write_text(path.read_text().replace(weight, "method.memory_weight=7", 1))
    assert call(copied, "dimum", "--trials", "2") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (
        f"the declared search has changed (method.memory_weight=7 then, {weight} now)" in error
        and "Type " in error
    )


def test_rows_of_other_code_are_refused_where_trials_are_missing(
    copied: Path, capsys: pytest.CaptureFixture
):
    path = copied / "tuning" / "dimum.csv"
    key = next(
        row["unlearn"] for row in reversed(tuning.read_rows(path)) if row["status"] == "finished"
    )
    path.write_text(path.read_text().replace(key, "0123456789abcdef"))
    assert (
        call(copied, "dimum", "--trials", "2") == 0
    )  # nothing is missing: the tables are made of what there is
    assert call(copied, "dimum", "--trials", "3") == 2
    error = capsys.readouterr().err
    assert (
        "made by other code or other defaults (unlearn 0123456789abcdef, now " in error
        and error.count("\n") == 1
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["dimun"], "dimun: is no method that is tuned; allowed: "),
        (["retrain"], "retrain: is no method that is tuned"),
        (["seed=5"], "seed=5: is given by conf/tune.yaml"),
        (["attack=dimra"], "attack=dimra: is given by"),
        (["--trials", "0"], "--trials 0: must be between 1 and 1024"),
    ],
)
def test_what_can_not_be_asked_for_is_said_in_one_line(
    words: list[str], says: str, tmp_path: Path, capsys
):
    assert tune.main([*words, "--outputs", str(tmp_path), "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and re.search("Type|Leave", error)
    assert error.count("\n") == 1


def test_a_method_that_another_process_is_at_is_left_to_it(
    copied: Path, searched: Path, capsys, monkeypatch
):
    shutil.copytree(searched / "outputs", copied / "outputs")
    monkeypatch.setattr(tune, "make", lambda *_: None)
    (copied / "tuning" / "finetune.csv").unlink()
    with tune.FileLock(copied / "outputs" / "tuning" / "finetune.lock"):
        assert call(copied, "finetune", "--trials", "2") == 0
    assert "finetune: another process is at it" in capsys.readouterr().out
