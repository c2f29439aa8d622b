"""The sentences of an audit, on models that a script of other people made: every attack that can be
run, the verdict, its exit code, a reference, export, and a second request.
"""

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
import torch
import yaml
from command import ROOT, TINY, environment, run
from diffusers import DDPMScheduler, UNet2DModel
from elsewhere import FILE, TABLE, made_elsewhere, with_rows
from huggingface_hub import ModelCard
from made_up import make_record
from runs import Cell
from safetensors.torch import load_file

from unrelearn.artifact import sha256
from unrelearn.config.given import completed, with_references
from unrelearn.config.kinds import left_out, options
from unrelearn.errors import UsageError
from unrelearn.grid.cells import Swept
from unrelearn.report import audit
from unrelearn.report.stats import wilson
from unrelearn.report.words import significant

SMALL = [
    "oracle.max_steps=80",
    "sampler.num_images=12",
    "sampler.num_inference_steps=4",
    "sampler.images_per_retained_class=1",
    "sampler.second=null",
    "sampler.guidance_scales=[1.0]",
    "eval=[forget_accuracy,retain_accuracy]",
    "relearning.budgets=[0,2]",
    "relearning.batch_size=8",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_elsewhere(tmp_path_factory.getbasetemp() / "elsewhere", "--steps", "150")


def records(outputs: Path) -> list[dict]:
    found = [path for path in sorted((outputs / "runs").glob("*/result.json"))]
    return [json.loads(path.read_text()) | {"path": str(path)} for path in found]


@pytest.fixture(scope="module")
def without_original(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """(outputs, what was printed) of the sentence without the original, on a false claim: it still
    draws noughts.
    """
    outputs = tmp_path_factory.mktemp("audit") / "outputs"
    given = ["method=given", f"method.checkpoint={made / 'theirs'}/", "forget=0", "attack=all"]
    limit = "audit.fail_above=0.05"
    done = run(*given, limit, *SMALL, f"paths.outputs={outputs}", expect=3)
    return outputs, done


def test_every_attack_is_run_that_can_be_and_the_others_are_named(without_original: tuple):
    outputs, done = without_original
    missing = left_out("Denoising", original=False)
    assert missing.keys() == {"dimra_proxy", "interpolation", "row_transplant"}
    for name, why in missing.items():
        assert f"attack=all leaves {name} out: it {why}" in done.stdout
    made_of = records(outputs)
    assert {r["attack"] for r in made_of} == {*options("attack", "Denoising")} - missing.keys()
    for record in made_of:
        assert {row["model"] for row in record["rows"]} <= {"unlearned", "attacked"}
        assert record["given"]["left_out"] == missing and record["weights"] is None


def test_the_verdict_says_who_brought_back_what_and_what_was_given(
    without_original: tuple, made: Path
):
    outputs, done = without_original
    page = (outputs / "report" / "audit.html").read_text()
    for words in ("Whoever holds nothing of the class", "Whoever holds real images of the class"):
        assert words in page
    assert "a part of it</h3>" not in page  # nobody held the original
    assert re.search(r"rate 0\.\d+ alone, \d+ steps", page)
    for file in ("config.json", "scheduler_config.json", FILE):
        assert sha256(made / "theirs" / file) in page
    assert "interpolation: needs the original model" in page
    assert "reference=retrain trains one" in page and "python run.py" in page
    lines = audit.exceeding(records(outputs))
    assert lines and all(line in done.stderr for line in lines)
    for words in ("few-shot", "LoRA", "context probe", "embedding"):  # who holds images
        assert not [line for line in lines if words in line]


def test_the_report_of_many_runs_holds_the_verdict(without_original: tuple, tmp_path: Path):
    report = runpy.run_path(str(ROOT / "scripts" / "report.py"))["main"]
    kept = [r["path"] for r in records(without_original[0]) if r["attack"] in ("none", "quantize")]
    assert report([*kept, "--out", str(tmp_path)]) == 0
    page = (tmp_path / "audit.html").read_text()
    assert "Quantisation" in page and "dimra: was not asked for" in page


def test_the_limit_is_on_what_is_brought_back_without_anything_of_the_class(
    without_original: tuple,
):
    shown = audit.attacked(records(without_original[0]))
    assert {each.holds for each in shown} == {audit.NOTHING, audit.IMAGES}
    highest = max(each.share.mean for each in shown if each.holds == audit.NOTHING)
    limited = [
        r | {"config": r["config"] | {"audit": {"fail_above": highest}}}
        for r in records(without_original[0])
    ]
    assert audit.exceeding(limited) == []
    limited[-1]["config"]["audit"]["fail_above"] = highest - 1e-6  # the lowest of all counts
    assert len(audit.exceeding(limited)) >= 1
    assert audit.lead(limited).endswith(" of real test images.")
    limited[0]["oracle"] = {"test_accuracy": {"value": 0.13}}
    (line, *_) = audit.exceeding(limited)
    assert "nothing can be said" in line and "right on 13 %" in line


def with_shares(outputs: Path, share: float, n: int = 100, retained: float = 0.9) -> list[dict]:
    """The records with this share of the class in every model, and of the retained classes."""
    changed = json.loads(json.dumps(records(outputs)))
    hits = "1" * round(share * n) + "0" * (n - round(share * n))
    for record in changed:
        record["oracle"] = {"test_accuracy": {"value": 0.97}}
        for row in record["rows"]:
            ends = dict(zip(("low", "high"), wilson(round(share * n), n), strict=True))
            row["metrics"]["forget_accuracy"] = {"1.0": {"value": share, "n": n, **ends}}
            row["metrics"]["forget_accuracy"]["1.0"]["hits"] = hits
            kept = {"value": retained, "low": retained - 0.05, "high": retained + 0.05, "n": n}
            row["metrics"]["retain_accuracy"] = {"1.0": kept}
    return changed


def test_the_answer_is_no_or_that_nothing_was_found_or_that_it_can_not_be_told(
    without_original: tuple,
):
    outputs = without_original[0]
    assert audit.answer(with_shares(outputs, 0.5)).startswith("No, it was not forgotten: ")
    gone = with_shares(outputs, 0.04)
    assert audit.answer(gone).startswith("Nothing of class 0 was found: ")
    blind = [record | {"oracle": {"test_accuracy": {"value": 0.4}}} for record in gone]
    assert "can not be told" in audit.answer(blind) and "right on 40 %" in audit.answer(blind)
    # what a model shows that never saw the class is no remainder
    reference = audit.attacked(with_shares(outputs, 0.5))
    assert audit.answer(with_shares(outputs, 0.5), reference).startswith("Nothing of class 0")
    assert "a model that never saw it has 4 %" in audit.answer(
        with_shares(outputs, 0.5), audit.attacked(gone)
    )
    asked = [each for each in reference if not each.where]  # it met no attack
    assert len(asked) < len(reference)
    assert audit.answer(with_shares(outputs, 0.5), asked).startswith("Nothing of class 0")


def test_a_reference_that_draws_nothing_is_none(without_original: tuple):
    whole = with_shares(without_original[0], 0.1)
    retrained = [r | {"method": "retrain", "given": None} for r in whole]
    beside, why = audit.reference(whole, [*whole, *retrained])
    assert beside and not why
    ruined = with_shares(without_original[0], 0.1, retained=0.1)
    ruined = [r | {"method": "retrain", "given": None} for r in ruined]
    beside, why = audit.reference(whole, [*whole, *ruined])
    assert not beside and "10 % are recognised, of the given model's 90 %" in why
    assert why in audit.words(whole, [*whole, *ruined])
    page = audit.audit_page([*whole, *ruined], Path("outputs/report"))
    assert "is no reference" in page and "beyond it</th>" not in page


def test_a_limit_that_is_not_exceeded_says_what_was_compared(without_original: tuple):
    few = [
        r | {"config": r["config"] | {"audit": {"fail_above": 0.05}}}
        for r in with_shares(without_original[0], 0.05, n=20)
    ]
    assert not audit.exceeding(few)
    said = audit.words(few, few)[-1]
    assert said.startswith("audit.fail_above=0.05: not exceeded; the most is 5 %")
    assert "of at most 20 images" in said and "Type sampler.num_images=NUMBER" in said
    many = [
        r | {"config": r["config"] | {"audit": {"fail_above": 0.05}}}
        for r in with_shares(without_original[0], 0.01, n=400)
    ]
    assert "Type sampler.num_images" not in audit.words(many, many)[-1]


def test_no_limit_passes_what_nobody_judges(compose: Callable, made: Path):
    given = ["method=given", f"method.checkpoint={made / 'theirs'}", "forget=0", "attack=none"]
    with pytest.raises(UsageError) as error:
        compose(*completed(given), "audit.fail_above=0.05", "stages=[pretrain,unlearn]")
    assert "nothing is judged without the stage evaluate" in str(error.value)


ON_A_FALSE_CLAIM = ["method=given", "forget=0", "audit.fail_above=0.05"]


def test_processes_of_torchrun_end_with_the_code_of_the_limit(without_original: tuple, made: Path):
    """torchrun itself has 1, whatever the processes that it starts end with."""
    there = [f"method.checkpoint={made / 'theirs'}/", f"paths.outputs={without_original[0]}"]
    two = ["trainer=ddp", "trainer.devices=2"]
    done = run(*ON_A_FALSE_CLAIM, *there, "attack=none", *two, *SMALL, expect=3)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("audit.fail_above=")]
    (record,) = [r for r in records(without_original[0]) if r["attack"] == "none"]
    assert line.endswith(f"({record['name']})") and record["config"]["trainer"]["devices"] == 2
    assert "Traceback" not in done.stderr


def test_a_grid_ends_with_the_code_of_the_limit_and_names_the_runs(
    without_original: tuple, made: Path
):
    there = [f"method.checkpoint={made / 'theirs'}/", f"paths.outputs={without_original[0]}"]
    choices = [*ON_A_FALSE_CLAIM, *there, "attack=none,quantize", *TINY, *SMALL, "tracking=none"]
    for command in ("run --no-report", "status"):
        words = [sys.executable, "scripts/grid.py", *command.split(), *choices]
        done = forked.finish(words, cwd=ROOT, env=environment())
        assert done.returncode == 3, done.stdout + done.stderr
        lines = [line for line in done.stderr.splitlines() if line.startswith("audit.fail_above=")]
        names = [
            r["name"] for r in records(without_original[0]) if r["attack"] in ("none", "quantize")
        ]
        assert {line.rpartition(" (")[2] for line in lines} <= {f"{name})" for name in names}
        assert lines
    assert "everything is done" in done.stdout


def test_a_grid_has_no_run_besides_its_own(made: Path, tmp_path: Path):
    words = [*ON_A_FALSE_CLAIM, f"method.checkpoint={made / 'theirs'}", "reference=retrain"]
    with pytest.raises(UsageError, match="reference=retrain: a grid has no run"):
        Swept([*words, "attack=none", *SMALL, "tracking=none", f"paths.outputs={tmp_path}"])


def test_a_reference_is_the_same_network_trained_and_attacked_alike(made: Path, tmp_path: Path):
    """The sentence with the original, on a folder of images; the cost is said before anything."""
    given = [
        "method=given",
        f"method.checkpoint={made / 'theirs'}",
        f"model.checkpoint={made / 'original'}/",
        "dataset=folder",
        f"dataset.root={made / 'images'}/",
        "forget=7",
        "attack=quantize",
        "reference=retrain",
    ]
    done = run(*given, *SMALL, f"paths.outputs={tmp_path}")
    said = [line for line in done.stdout.splitlines() if "reference=retrain: 40 optimiser" in line]
    assert done.stdout.index(said[0]) < done.stdout.index("sample the model")
    by_method = {record["method"]: record for record in records(tmp_path)}
    assert by_method.keys() == {"given", "retrain"}
    for record in by_method.values():
        assert [row["model"] for row in record["rows"]][:2] == ["original", "unlearned"]
    page = (tmp_path / "report" / "audit.html").read_text()
    assert "beyond it" in page and sha256(made / "original" / FILE) in page


def test_without_the_original_only_the_shape_of_the_network_is_lent(made: Path, tmp_path: Path):
    given = ["method=given", f"method.checkpoint={made / 'theirs'}", "forget=7", "attack=none"]
    run(*given, "reference=retrain", *SMALL, f"paths.outputs={tmp_path}")
    by_method = {record["method"]: record for record in records(tmp_path)}
    (row,) = by_method["retrain"]["rows"]
    assert row["model"] == "unlearned"
    weights = tmp_path / "artifacts" / row["weights"].split(" ")[0]
    network = UNet2DModel.from_pretrained(next(weights.rglob("config.json")).parent)
    assert network.config.block_out_channels == [16, 32]  # theirs, and not that of model=...


def test_a_network_without_a_row_for_no_class_has_a_reference_that_never_uses_it(
    made: Path, tmp_path: Path
):
    folder = with_rows(made / "theirs", tmp_path / "none", [*range(10)])
    given = ["method=given", f"method.checkpoint={folder}", "method.null_label=none", "forget=7"]
    needed = ["sampler.retain_guidance_scales=[1.0]", "model.pretrain.label_dropout=0.0"]
    words = [*given, *needed, "attack=quantize", "reference=retrain", *SMALL]
    run(*words, f"model.checkpoint={folder}", f"paths.outputs={tmp_path}")
    by_method = {record["method"]: record for record in records(tmp_path)}
    assert [row["model"] for row in by_method["retrain"]["rows"]][:1] == ["unlearned"]
    assert "beyond it" in (tmp_path / "report" / "audit.html").read_text()
    weights = tmp_path / "artifacts" / by_method["retrain"]["rows"][0]["weights"].split(" ")[0]
    ours, theirs = load_file(next(weights.rglob(FILE))), load_file(folder / FILE)
    assert (len(ours.pop(TABLE)), len(theirs.pop(TABLE))) == (11, 10)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_an_original_in_another_order_lends_no_reference_to_attacks_that_read_it():
    asked = ["method=given", "method.checkpoint=theirs", "reference=retrain"]
    original, order = "model.checkpoint=original", "method.labels=[1,0]"
    assert len(with_references([[*asked, "attack=row_transplant", original]])) == 2
    assert len(with_references([[*asked, "attack=row_transplant", original, order]])) == 1
    (_, words) = with_references([[*asked, original, order]])
    assert {"model.checkpoint=theirs", "reference=retrain"} < {*words}


def retrained(record: dict, **changes: object) -> dict:
    """What stands for the same run on a model that never saw the class; changes: of its config."""
    config = {**record["config"], **changes}
    name = record["name"].replace("given", "retrain")
    return {**record, "method": "retrain", "name": name, "given": None, "config": config}


def test_only_the_same_attack_at_the_same_settings_stands_beside(without_original: tuple):
    given = [
        r for r in records(without_original[0]) if r["attack"] in ("none", "quantize", "prune")
    ]
    by = {record["attack"]: record for record in given}
    folder = without_original[0] / "report"

    def page(*references: dict) -> str:
        return " ".join(audit.audit_page([*given, *references], folder).split())

    one = page(retrained(by["quantize"]))
    assert "Nothing stands beside prune (not run): what these attacks teach" in one
    both = page(retrained(by["quantize"]), retrained(by["prune"]))
    assert "beyond it" in both and "Nothing stands beside" not in both
    fewer = by["quantize"]["config"]["attack"] | {"levels": [8]}
    other = page(retrained(by["quantize"], attack=fewer), retrained(by["prune"]))
    assert "Nothing stands beside quantize (with other settings)" in other
    (section,) = [
        audit._section(g, [*given, retrained(by["quantize"])], folder) for g in audit.audits(given)
    ]
    (table,) = [kind["tables"] for kind in section["classes"] if kind["tables"]]
    beyond = {row[0]: row[-1] for row in table["rows"]}
    assert beyond.pop("Pruning") == "–" and set(beyond.values()) == {"+0 points"}


def test_a_model_of_another_shape_is_no_reference(without_original: tuple):
    given = [r for r in records(without_original[0]) if r["attack"] in ("none", "quantize")]
    for section, key, value in (("model", "unet", {"layers_per_block": 9}), ("oracle", "seed", 5)):
        other = given[0]["config"][section] | {key: value}
        references = [retrained(record, **{section: other}) for record in given]
        page = audit.audit_page([*given, *references], without_original[0])
        assert "Nothing stands beside these numbers" in page and "beyond it" not in page


def test_what_is_exported_is_read_by_diffusers_alone(
    without_original: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    export = runpy.run_path(str(ROOT / "scripts" / "export.py"))["main"]
    for attack, more in (("none", []), ("quantize", ["--model", "attacked", "--at", "4"])):
        (record,) = [r for r in records(without_original[0]) if r["attack"] == attack]
        folder = tmp_path / attack
        named = [str(Path(record["path"]).parent), str(folder), *more, "--license", "mit"]
        assert export(named) == 0
        network = UNet2DModel.from_pretrained(folder)
        assert DDPMScheduler.from_pretrained(folder).config.prediction_type == "epsilon"
        assert torch.equal(network.conv_in.weight, load_file(folder / FILE)["conv_in.weight"])
        card = ModelCard.load(folder / "README.md")
        assert card.data.library_name == "diffusers" and card.data.eval_results
        assert card.data.license == "mit"
        row = next(r for r in record["rows"] if r["step"] == (4 if more else None))
        value = row["metrics"]["forget_accuracy"]["1.0"]["value"]
        assert card.data.eval_results[0].metric_value == pytest.approx(value)
        assert "method.checkpoint=theirs" in card.text and str(tmp_path.parent) not in card.text
        for words in (sha256(folder / FILE), "| 95 % interval |"):
            assert words in card.text
        assert (folder / FILE).stat().st_mode & 0o044, "others may read it"
        monkeypatch.chdir(folder)
        (snippet,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
        drawn: dict = {}
        exec(snippet, drawn)
        assert drawn["images"].shape == (4, 1, 8, 8)
    assert export([str(Path(record["path"]).parent), str(folder)]) == 2  # it is not empty


def test_a_card_says_how_good_retained_images_are(without_original: tuple):
    distances = runpy.run_path(str(ROOT / "scripts" / "export.py"))["distances"]
    record = make_record()
    row = record["rows"][1]
    value = row["metrics"]["fd_oracle"]["1.0"]
    said = "\n".join(distances(record, row))
    assert "Quality of retained classes, guidance 1:" in said
    about = f"{value['n']} images, floor {significant(value['floor'])}"
    assert f"- FD oracle: {significant(value['value'])} ({about})" in said
    (record, *_) = records(without_original[0])
    assert distances(record, record["rows"][0]) == []


def test_a_model_that_is_not_there_is_not_exported(
    without_original: tuple, tmp_path: Path, capsys: pytest.CaptureFixture
):
    export = runpy.run_path(str(ROOT / "scripts" / "export.py"))["main"]
    (record,) = [r for r in records(without_original[0]) if r["attack"] == "quantize"]
    assert export([record["path"], str(tmp_path / "x"), "--model", "original"]) == 2
    assert export([record["path"], str(tmp_path / "x"), "--model", "attacked", "--at", "3"]) == 2
    assert (
        "--model attacked --at 8 or 4" in capsys.readouterr().err and not (tmp_path / "x").exists()
    )


class Hub:
    """What stands for the hub: notes what is asked of it, and fails if it is told to."""

    def __init__(self, *asked: str | Exception):
        self.asked = list(asked)

    def __call__(self) -> "Hub":
        return self

    def create_repo(self, name: str, *, exist_ok: bool) -> None:
        for error in self.asked:
            raise error
        self.asked.append(f"create {name} {exist_ok}")

    def upload_folder(self, *, repo_id: str, folder_path: Path) -> str:
        files = " ".join(sorted(file.name for file in folder_path.iterdir()))
        self.asked.append(f"upload {repo_id} {files}")
        return f"https://example.org/{repo_id}"


@pytest.mark.parametrize(
    ("token", "error", "says"),
    [
        ("hf_x", None, None),
        (None, None, "--push me/it: nobody is logged in at the hub. Type hf auth login"),
        ("hf_x", OSError(-2, "no\nname"), "--push me/it: [Errno -2] no name. The folder is there"),
        ("hf_x", ValueError(), "--push me/it: ValueError. The folder is there"),
    ],
)
def test_what_is_pushed_and_what_is_said_where_that_can_not_be(
    without_original: tuple,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    token: str | None,
    error: Exception | None,
    says: str | None,
):
    export = runpy.run_path(str(ROOT / "scripts" / "export.py"))["main"]
    hub, folder = Hub(*filter(None, [error])), tmp_path / "a folder"
    monkeypatch.setitem(export.__globals__, "HfApi", hub)
    monkeypatch.setitem(export.__globals__, "get_token", lambda: token)
    (record,) = [r for r in records(without_original[0]) if r["attack"] == "none"]
    code = export([str(Path(record["path"]).parent), str(folder), "--push", "me/it"])
    printed = capsys.readouterr()
    if token is None:
        assert code == 2 and not folder.exists() and f"error: {says}" in printed.err
        return
    assert load_file(folder / FILE)  # whatever becomes of the push
    if says is None:
        files = f"README.md config.json {FILE} scheduler_config.json"
        assert code == 0 and hub.asked == ["create me/it True", f"upload me/it {files}"]
        assert printed.out.endswith("https://example.org/me/it\n")
        return
    (line,) = printed.err.splitlines()
    assert code == 2 and line.startswith(f"error: {says}")
    assert line.endswith(f"hf upload me/it '{folder}'") and len(hub.asked) == bool(error)


def test_the_front_matter_of_a_card_is_what_the_hub_reads(without_original: tuple, tmp_path: Path):
    export = runpy.run_path(str(ROOT / "scripts" / "export.py"))
    (record,) = [r for r in records(without_original[0]) if r["attack"] == "none"]
    card = ModelCard(export["model_card"](record, record["rows"][0], tmp_path))
    front = yaml.safe_load(card.content.split("---\n")[1])
    assert front.keys() == {"library_name", "tags", "model-index"}
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == record["name"] and result["dataset"]["type"] == "digits"
    assert result["task"] == {"type": "unconditional-image-generation"}
    shares = {m["type"]: m["value"] for m in result["metrics"]}
    measured = record["rows"][0]["metrics"]
    assert shares == {name: measured[name]["1.0"]["value"] for name in shares} and len(shares) == 2
    assert "label 10 is no class" in card.text
    record["config"]["method"]["null_label"] = "none"
    assert "label 10 is not to be asked for" in export["made_of"](record)


# ------------------------------------------------------------------------------- a second request


def test_a_second_request_starts_from_given_weights_and_trains_on_nothing_of_the_first(
    compose: Callable, made: Path
):
    def cell(*more: str) -> Cell:
        start = [f"model.checkpoint={made / 'theirs'}", "model.weights=raw", "forget=3"]
        small = ["unlearning.max_steps=2", "unlearning.batch_size=8", "attack=none"]
        shape = ["model.unet.block_out_channels=[16,32]", "model.unet.norm_num_groups=4"]
        stages = "stages=[pretrain,unlearn]"
        return Cell(compose("method=salun", *start, *small, *shape, *more, stages), "")

    second, anew = cell("forgotten_before=7"), cell()
    second.complete()
    first = load_file(second.original.weights / FILE)
    assert all(torch.equal(v, first[k]) for k, v in load_file(made / "theirs" / FILE).items())
    after = load_file(second.unlearned.weights / FILE)
    assert any(not torch.equal(first[name], after[name]) for name in first)
    task = second.task(second.original)
    assert task.forget.labels.unique().tolist() == [3]
    assert task.retain.labels.unique().tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert task.retain_classes == [0, 1, 2, 4, 5, 6, 8, 9]
    assert second.original.stage.key == anew.original.stage.key
    assert second.unlearned.stage.key != anew.unlearned.stage.key


def test_a_whole_second_request_says_how_much_of_the_first_shows(made: Path, tmp_path: Path):
    """As docs/auditor.md types it; attacked too, and its result can be asked for a third one."""
    start = [f"model.checkpoint={made / 'theirs'}/", "model.weights=raw"]
    shape = ["model.unet.block_out_channels=[16,32]", "model.unet.norm_num_groups=4"]
    asked = ["forget=3", "forgotten_before=7", "attack=dimra"]
    small = [*SMALL, "unlearning.max_steps=2", "unlearning.batch_size=8"]
    done = run("method=salun", *start, *asked, *shape, *small, f"paths.outputs={tmp_path}")
    (record,) = records(tmp_path)
    assert (record["forget_classes"], record["forgotten_before"]) == ([3], [7])
    assert [row["model"] for row in record["rows"]] == ["original", "unlearned", "attacked"]
    shown = [
        round(100 * row["metrics"]["retain_accuracy"]["1.0"]["per_class"][7], 1)
        for row in record["rows"]
    ]
    (line,) = [text for text in done.stdout.splitlines() if "forgotten before" in text]
    assert all(f"{share:g}" in line or f"{share:.1f}" in line for share in shown), (line, shown)
    page = (tmp_path / "runs" / record["name"] / "report.html").read_text()
    assert "forgotten before, images show" in page


@pytest.mark.parametrize("value", ["3", "[0,1,2,4,5,6,7,8,9]", "cat"])
def test_what_was_forgotten_before_must_be_other_classes(compose: Callable, value: str):
    with pytest.raises(UsageError) as error:
        compose("forget=3", f"forgotten_before={value}")
    (line,) = error.value.problems
    assert line.startswith("forgotten_before=")
    assert "forgotten_before=" in line.rpartition("Type")[2]
