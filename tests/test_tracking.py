"""W&B, by reading back the files it wrote; and what happens when it does not work."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from command import ROOT, SHORT, environment, run
from wandb_server import KEY, Server

from unrelearn import hosted, tracking
from unrelearn.grid.account import Account


def records(path: Path) -> list[dict]:
    """Every record of an offline run file, by W&B's own reader."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(path)],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def read(outputs: Path, name: str) -> tuple[dict, list[dict], dict, dict]:
    """Of the only run whose folder has this in its name: its header, history, summary, and the axis
    of each of its curves.
    """
    (path,) = (outputs / "wandb").glob(f"offline-run-*{name}*/*.wandb")
    found, summary = records(path), {}
    for record in found:
        summary |= record.get("summary", {}).get("update", {})
    axes = {
        m["glob_name"]: m["step_metric"]
        for r in found
        if (m := r.get("metric", {})).get("glob_name")
    }
    header = next(r["run"] for r in found if r["type"] == "run")
    return header, [r["history"]["item"] for r in found if r["type"] == "history"], summary, axes


def columns(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory) -> Path:
    outputs = tmp_path_factory.mktemp("tracked") / "outputs"
    run(*SHORT, f"paths.outputs={outputs}", "tracking.tags=[mine]", tracking="wandb")
    return outputs


def record_of(outputs: Path) -> dict:
    (path,) = outputs.glob("runs/*/result.json")
    return json.loads(path.read_text())


def ids(outputs: Path) -> list[str]:
    return sorted(path.name.split("-", 3)[3] for path in (outputs / "wandb").glob("offline-run-*"))


def test_one_offline_run_for_each_computed_artefact_and_one_for_the_cell(tracked: Path):
    artefacts = sorted(
        f"{path.parent.parent.name}-{path.parent.name}"
        for path in tracked.rglob("manifest.json")
        if path.parent.parent.name != "reference"
    )  # what is seen in real images: nothing to plot
    found = ids(tracked)
    assert [id for id in found if not id.startswith("result-")] == artefacts
    assert (
        len(artefacts) == 13 and len(found) == 14
    )  # pretrain, 2 classifiers, unlearn, attack, 4 x (samples, evaluate)


@pytest.mark.parametrize(
    "stage, group, axis, curves",
    [
        ("pretrain", "digits", "pretrain/step", ["pretrain/denoising"]),
        ("unlearn", "digits-dimum", "unlearn/step", ["unlearn/memory", "unlearn/retain"]),
        ("attack", "digits-dimum-dimra", "attack/budget", ["attack/auxiliary"]),
    ],
)
def test_each_stage_has_its_group_and_its_own_axis(
    tracked: Path, stage: str, group: str, axis: str, curves: list[str]
):
    header, rows, _, axes = read(tracked, f"-{stage}-")
    assert (header["run_group"], header["job_type"], header["tags"]) == (
        group,
        stage,
        [stage, "mine"],
    )
    assert axes == {f"{stage}/*": axis}
    losses = json.loads(next(tracked.glob(f"artifacts/{stage}/*/losses.json")).read_text())
    assert columns(rows, axis, *curves) == [
        (row["step"], *(row[c.split("/")[1]] for c in curves)) for row in losses
    ]
    if stage == "unlearn":
        assert header["config"]["update"]["method"]["memory"] == "another_class"


def test_a_finished_cell_is_a_line_over_the_budget(tracked: Path):
    header, rows, summary, axes = read(tracked, "-result-")
    record = record_of(tracked)
    assert header["display_name"] == record["name"] and header["run_group"] == "digits-dimum-dimra"
    assert (header["config"]["update"]["method"], header["config"]["update"]["seed"]) == (
        "dimum",
        0,
    )
    assert axes == {"recovery/*": "recovery/budget"}
    for scale in ("1", "2"):
        accuracies = [
            row["metrics"]["forget_accuracy"][f"{scale}.0"]["value"] for row in record["rows"]
        ]
        assert columns(rows, "recovery/budget", f"recovery/forget_accuracy@{scale}") == list(
            zip([0, 5, 10], accuracies[1:], strict=True)
        )
        assert summary[f"original/forget_accuracy@{scale}"] == accuracies[0]
        assert summary[f"attacked/forget_accuracy@{scale}"] == accuracies[-1]


def test_sample_grids_are_saved_as_images_in_the_group_of_their_model(tracked: Path):
    grids = list(
        (tracked / "wandb").glob("offline-run-*-samples-*/files/media/images/samples/*.png")
    )
    assert len(grids) == 4 * 5  # models x (forget by two samplers at two scales, retain at one)
    headers = [
        records(path)[1]["run"]
        for path in (tracked / "wandb").glob("offline-run-*-samples-*/*.wandb")
    ]
    names = sorted(header["display_name"].rsplit(" ", 1)[0] for header in headers)
    assert names == [
        f"samples digits{of}" for of in ("", "-dimum", "-dimum-dimra at 10", "-dimum-dimra at 5")
    ]


# what has to get through may take as long as it likes; what can not is given up after two tries
PATIENT = {"WANDB_INIT_TIMEOUT": "600", "WANDB_FINISH_TIMEOUT": "600"}
TWICE = {"WANDB_X_GRAPHQL_RETRY_MAX": "1", "WANDB_X_GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1"}


def three_stages(
    outputs: Path,
    mode: str,
    backend: str = "wandb",
    *missing: str,
    inside: list[str] = [],  # noqa: B006
    **changes: str,
) -> list[str]:
    """The lines that are printed when three stages are tracked one after the other, which must get
    through; inside: what a real start of them is the end of.
    """
    script = str(Path(__file__).with_name("tracked_stages.py"))
    words = [sys.executable, script, str(outputs), mode, backend, *missing]
    given = {"cwd": ROOT, "env": environment(**PATIENT | changes)}
    if inside:
        done = subprocess.run([*inside, *words], text=True, capture_output=True, **given)
    else:
        done = forked.finish(words, **given)
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert lines.count("done") == 1
    return [line for line in lines if line != "done"]


def test_without_tracking_nothing_imports_wandb(tmp_path: Path):
    assert three_stages(tmp_path, "offline", "none", "wandb", inside=["env"]) == []
    (line,) = three_stages(tmp_path, "offline", "wandb", "wandb")  # and here it is missed
    assert line.startswith("warning: W&B does not work here (ModuleNotFoundError") and not list(
        tmp_path.iterdir()
    )


# ---------------------------------------------------------------------------- when it does not work


def test_no_account_costs_one_line_and_the_files_are_written_offline(tmp_path: Path):
    changes = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": ""}
    (line,) = three_stages(tmp_path, "online", **changes)
    assert line.startswith("warning: W&B does not work here (UsageError") and "wandb login" in line
    assert ids(tmp_path) == ["attack-k", "evaluate-k", "samples-k"]


def test_no_network_costs_one_line_and_the_files_are_written_offline(tmp_path: Path):
    (line,) = three_stages(
        tmp_path,
        "online",
        WANDB_API_KEY=KEY,
        WANDB_BASE_URL="http://127.0.0.1:9",
        **TWICE,
    )
    assert line.startswith("warning: W&B does not work here (CommError: ")
    assert ids(tmp_path) == ["attack-k", "evaluate-k", "samples-k"]


@pytest.mark.parametrize(
    "request_, status, offline",
    [
        ("upsert", 403, ["evaluate-k", "samples-k"]),
        ("upsert", 500, ["evaluate-k", "samples-k"]),
        ("stream", 403, ["evaluate-k"]),
    ],
)
def test_a_server_that_refuses_costs_one_line_and_what_follows_is_offline(
    tmp_path: Path, request_, status, offline
):
    """403: the storage is full, said when a run begins, or once its data come."""
    with Server() as server:
        server.refuse = [("samples", request_, status)]
        (line,) = three_stages(tmp_path, "online", **TWICE, **server.environment)
    assert line.startswith("warning: W&B does not work here (") and "tracking=none" in line
    assert server.rows["attack-k"][0]["attack/a"] == 1 and "evaluate-k" not in server.rows
    assert ids(tmp_path) == offline


def test_a_home_that_can_not_be_written_costs_no_line_and_nothing_is_written_beside_the_outputs(
    tmp_path: Path,
):
    outputs, nowhere = tmp_path / "outputs", tmp_path / "file" / "home"
    nowhere.parent.write_text("")  # also root can make no folder in it
    outputs.mkdir()
    clean = {name: "" for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    assert three_stages(outputs, "offline", HOME=str(nowhere), **clean) == []
    assert ids(outputs) == ["attack-k", "evaluate-k", "samples-k"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "outputs"]


def test_a_home_that_can_be_written_stays_in_use(tmp_path: Path, monkeypatch):
    for name in tracking.HOMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    tracking.settle(tmp_path / "outputs")
    assert not set(tracking.HOMES) & set(os.environ)
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_CACHE_DIR", "chosen")
    for name in set(tracking.HOMES) - {"WANDB_CACHE_DIR"}:
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)
    tracking.settle(tmp_path / "outputs")
    assert os.environ["WANDB_CACHE_DIR"] == "chosen"
    assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "outputs" / "wandb" / "home" / "data")


def test_a_file_in_place_of_the_folder_costs_one_line(tmp_path: Path):
    (tmp_path / "wandb").write_text("")
    (line,) = three_stages(tmp_path, "offline")
    assert line.startswith("warning: W&B does not work here (NotADirectoryError")


UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0,
    reason="needs a mount of its own",
)
def test_a_full_disk_costs_one_line(tmp_path: Path):
    """Full from the start: of the last free pages, W&B's process or ours may be the first to take
    one.
    """
    (tmp_path / "wandb").mkdir()
    full = f"mount -t tmpfs -o size=4k none {tmp_path}/wandb && head -c 4096 /dev/zero >"
    inside = [*UNSHARE, "sh", "-c", f'{full} {tmp_path}/wandb/full && exec "$@"', "sh"]
    (line,) = three_stages(tmp_path, "offline", inside=inside)
    assert line.startswith("warning: W&B does not work here (OSError") and "No space left" in line


def test_a_whole_run_whose_server_breaks_down_in_the_middle(tracked: Path, tmp_path: Path):
    """By itself W&B would wait at the end of the stage for as long as the server answers 500.

    It is the first stage that can not be sent, and the only one whose end may not take its time.
    """
    outputs = tmp_path / "outputs"
    shutil.copytree(
        tracked / "artifacts", outputs / "artifacts"
    )  # so that only an attack and its measurement are left
    with Server() as server:
        server.refuse = [("attack", "stream", 500)]
        done = run(
            *SHORT,
            "attack.budgets=[0,4]",
            f"paths.outputs={outputs}",
            tracking="wandb",
            **server.environment,
            **PATIENT | {"WANDB_FINISH_TIMEOUT": "10"},
        )
    said = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if "warning" in line.lower() or "wandb:" in line
    ]
    assert len(said) == 1 and said[0].startswith("warning: W&B does not work here"), (
        done.stdout + done.stderr
    )
    assert [row["step"] for row in record_of(outputs)["rows"]] == [None, None, 4]
    assert (outputs / "report" / "index.html").exists()
    assert server.rows == {} and not [id for id in ids(outputs) if id.startswith("attack")]


# --------------------------------------------------------------------------------- sending it later


def send(folder: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    words = [str(ROOT / "scripts" / "sync_wandb.py"), str(folder), *arguments]
    return forked.finish([sys.executable, *words], cwd=ROOT, env=environment(**changes))


def some_runs(tracked: Path, outputs: Path, *stages: str) -> Path:
    for stage in stages:
        (found,) = (tracked / "wandb").glob(f"offline-run-*-{stage}-*")
        shutil.copytree(found, outputs / "wandb" / found.name)
    return outputs


def test_what_is_sent_is_not_sent_again_and_a_failure_stops_nothing(tracked: Path, tmp_path: Path):
    outputs = some_runs(tracked, tmp_path / "outputs", "pretrain", "unlearn", "attack", "result")
    with Server() as server:
        server.refuse = [("unlearn", "stream", 403), ("attack", "upsert", 403)]
        done = send(outputs, "--seconds=800", **server.environment)
        assert done.returncode == 1 and "2 runs sent, 2 failed" in done.stdout
        assert "-unlearn-" in done.stderr and "-attack-" in done.stderr
        assert f"Type python scripts/sync_wandb.py {outputs} again" in done.stderr
        assert sorted(id.split("-")[0] for id in server.rows) == ["pretrain", "result"]
        server.refuse = []
        done = send(outputs, "--workspace", "--seconds=800", **server.environment)
        assert done.returncode == 0 and "2 runs sent, 0 failed" in done.stdout
    assert sorted(id.split("-")[0] for id in server.rows) == [
        "attack",
        "pretrain",
        "result",
        "unlearn",
    ]
    history = next(rows for id, rows in server.rows.items() if id.startswith("pretrain-"))
    assert [row["pretrain/step"] for row in history] == [10, 20, 30, 40]
    assert all(len(rows) == len({row["_step"] for row in rows}) for rows in server.rows.values())
    (view,) = (variables for name, variables in server.queries if name == "UpsertView2")
    assert (view["entityName"], view["projectName"]) == ("me", "unrelearn")


def test_what_is_to_be_typed_again_is_quoted(tmp_path: Path, monkeypatch, capsys):
    (run := tmp_path / "my outputs" / "offline-run-1-a").mkdir(parents=True)
    (run / "run-a.wandb").touch()
    monkeypatch.setattr(hosted, "account", lambda: "me")
    monkeypatch.setattr(hosted, "send", lambda parts, seconds: "refused")
    main = runpy.run_path(str(ROOT / "scripts" / "sync_wandb.py"))["main"]
    assert main([str(run.parent), "--no-results"]) == 1
    again = f"Type python scripts/sync_wandb.py '{run.parent}' again"
    assert again in capsys.readouterr().err


def test_a_run_that_gets_no_answer_is_given_up(tracked: Path, tmp_path: Path, monkeypatch):
    (folder,) = (some_runs(tracked, tmp_path, "attack") / "wandb").iterdir()
    with Server() as server:
        server.refuse = [("attack", "upsert", 500)]
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        assert hosted.send([folder], 5) == "no answer in 5 s" and not hosted.sent(folder)


def test_a_multirun_ends_with_the_table_of_its_cells(tracked: Path, tmp_path: Path):
    account = Account()
    for seed in (0, 1):
        record = record_of(tracked)
        record["config"]["paths"]["outputs"] = str(tmp_path)
        account.finish({**record, "seed": seed, "name": f"{record['name']}-{seed}"})
    assert account.end() == 0
    assert [id.split("-")[0] for id in ids(tmp_path)] == ["grid"]
    (table,) = tmp_path.glob("wandb/offline-run-*-grid-*/files/media/table/grid/*.json")
    assert len(json.loads(table.read_text())["data"]) == 2


def test_every_cell_and_their_table_can_be_written_later(tracked: Path, tmp_path: Path):
    """Also of a run without tracking; the levels of an edit, here bits, have an axis of their own
    and may fall.
    """
    record = record_of(tracked)
    quantised = {
        **record,
        "name": "another",
        "attack": "quantize",
        "attack_unit": "bits",
        "seed": 3,
        "rows": [
            *record["rows"][:2],
            *(
                {**row, "step": level}
                for row, level in zip(record["rows"][2:], (8, 4), strict=True)
            ),
        ],
    }
    for each in (record, quantised):
        path = tmp_path / "runs" / each["name"] / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(
            json.dumps(
                {
                    **each,
                    "config": {
                        **each["config"],
                        "tracking": {
                            "backend": "none",
                            "mode": "disabled",
                            "project": "unrelearn",
                            "group": None,
                            "tags": [],
                        },
                    },
                }
            )
        )
    changes = {"HOME": str(tmp_path), "WANDB_API_KEY": "", "NETRC": str(tmp_path / "netrc")}
    for _ in range(2):  # the second time everything is there
        done = send(tmp_path, **changes)
        assert (
            done.returncode == 2
            and "wandb login" in done.stderr
            and len(done.stderr.splitlines()) == 1
        )
        assert [id.split("-")[0] for id in ids(tmp_path)] == ["grid", "result", "result"]
    (table,) = tmp_path.glob("wandb/offline-run-*-grid-*/files/media/table/grid/*.json")
    table = json.loads(table.read_text())
    rows = sorted(
        (dict(zip(table["columns"], row, strict=True)) for row in table["data"]),
        key=lambda row: row["seed"],
    )
    assert [(r["method"], r["attack"], r["seed"], r["forget_class"], r["run"]) for r in rows] == [
        ("dimum", "dimra", 0, "7", record["name"]),
        ("dimum", "quantize", 3, "7", "another"),
    ]
    measured = record["rows"][1]["metrics"]
    assert rows[0]["forget_accuracy@2 unlearned"] == measured["forget_accuracy"]["2.0"]["value"]
    assert rows[0]["retain_accuracy@1 unlearned"] == measured["retain_accuracy"]["1.0"]["value"]
    assert (
        rows[0]["forget_accuracy@1 attacked"]
        == record["rows"][-1]["metrics"]["forget_accuracy"]["1.0"]["value"]
    )
    lines = {}
    for path in tmp_path.glob("wandb/offline-run-*-result-*"):
        header, points, _, axes = read(tmp_path, path.name.split("-", 3)[3])
        (axis,) = axes.values()
        lines[header["display_name"]] = axis, [point[axis] for point in points]
    assert lines["another"] == ("recovery_quantize/level", [8, 4])


def test_the_workspace_draws_what_is_logged(tracked: Path, tmp_path: Path):
    pytest.importorskip("wandb_workspaces")
    done = send(tmp_path, "--specification", str(tmp_path / "view.json"))
    assert done.returncode == 0, done.stderr
    sections = json.loads((tmp_path / "view.json").read_text())["spec"]["section"][
        "panelBankConfig"
    ]["sections"]
    panels = {
        section["name"]: [panel["config"] for panel in section["panels"]] for section in sections
    }
    _, rows, _, _ = read(tracked, "-result-")
    drawn = {name for panel in panels["Recovery"] for name in (panel["xAxis"], *panel["metrics"])}
    assert {
        "recovery/budget",
        "recovery/forget_accuracy@1",
        "recovery/forget_accuracy@2",
    } <= drawn & rows[0].keys()
    samples = {
        path.name.rsplit("_", 2)[0]
        for path in tracked.glob("wandb/*-samples-*/files/media/images/samples/*.png")
    }
    assert {f"samples/{name}" for name in samples} <= set(panels["Samples"][0]["mediaKeys"])
    assert {panel["xAxis"] for panel in panels["Losses"]} == {
        "pretrain/step",
        "oracle/step",
        "unlearn/step",
        "attack/budget",
    }
    assert "grid/cells" in json.dumps(panels["Cells"])
