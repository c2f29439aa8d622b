"""A whole run of federated generators, at a tiny size, and bad input."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import Cell, execute
from safetensors.torch import load_file

from unrelearn.artifact import MANIFEST
from unrelearn.evals.published import block_error
from unrelearn.report import published
from unrelearn.report.page import run_page
from unrelearn.stage import walk
from unrelearn.tracks import vflgan

TINY = [
    "experiment=vflgan",
    "dataset=gauss_pair",
    "dataset.records=200",
    "model.pretrain.max_steps=10",
    "gan.replicas=2",
]
FLOORS = ["real: half against half", "real: drawn again", "real: last party permuted"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def test_a_run_compares_designs_beside_floors(compose: Callable[..., dict], outputs: Path):
    words = [*TINY, f"paths.outputs={outputs}", "eval=[cross_dependence,fd_raw]"]
    record = execute(compose(*words), "test")
    assert record is not None and record["kind"] == "vflgan"
    labels = [row["model"] for row in record["rows"]]
    assert labels[:3] == FLOORS and labels[3:5] == ["wgan_gp", "vflgan"] and len(labels) == 9
    for row in record["rows"]:
        assert len(published.value_of(row, "cross_dependence")["values"]) == 2
    headers, lines = published.cells(record)
    assert len(headers) == len(lines[0]) == 6
    without = "without a mode of privacy: no guarantee: nothing is noised."
    assert without in published.table_caption(record)
    assert lines[3][-3] == "–" and lines[4][-3] != "–"  # the ceiling is no federation
    made = json.loads((outputs / "artifacts" / record["rows"][4]["weights"] / MANIFEST).read_text())
    assert record["rows"][4]["bytes"]["up"] * 2 == made["meta"]["bytes"]["up"]  # of two replicas
    page = run_page(record, outputs)
    assert "Dependence of columns" in page and "real: last party permuted" in page
    again = execute(compose(*words), "test")
    assert again["created"] == record["created"]
    assert all(stage["status"] == "reused" for stage in again["stages"])


def test_columns_lie_a_file_a_party_and_tables_put_them_in_order(compose: Callable, outputs: Path):
    run = Cell(compose(*TINY, f"paths.outputs={outputs}", "gan.partition=interleaved"))
    compared = next(c for c in vflgan.evaluations(run) if c.what == "wgan_gp")
    compared.build()
    columns = compared.columns
    whole = columns.rows()["train"]
    for number, places in enumerate(columns.parties, start=1):
        file = columns.build().path / f"party_{number}.safetensors"
        assert load_file(file)["train"].equal(whole[:, places])  # public: mean 0, deviation 1
    evidence = compared.evidence()
    assert evidence.parties == [[0, 2, 4], [1, 3, 5]]
    permuted = next(c for c in vflgan.evaluations(run) if c.what == FLOORS[2]).evidence()
    assert permuted.tables[0][:, [0, 2, 4]].equal(permuted.real[0][:, [0, 2, 4]])
    error = block_error(permuted.real[0], permuted.tables[0], [([0], [3])])
    assert error > 0.5  # corr(a0, b0) was 0.8


def test_an_interrupted_training_goes_on_to_the_same_bits(
    compose: Callable, tmp_path: Path, capfd: pytest.CaptureFixture
):
    def stage(folder: str, *words: str) -> vflgan.Generators:
        given = [*TINY, f"paths.outputs={tmp_path / folder}", "design=vflgan", *words]
        return vflgan.models(Cell(compose(*given, "trainer.log_every_n_steps=1")))[0]

    whole = load_file(stage("whole").build().path / "state.safetensors")
    assert "train vflgan: 10/10" in capfd.readouterr().out
    halted = stage("halted", "trainer.checkpoint_every_n_steps=4")
    federation = halted.federation

    def stopped(privacy: object) -> object:
        trained = federation(privacy)
        train = trained.train
        trained.train = lambda until, each: (train(6, each), exec("raise KeyboardInterrupt"))
        return trained

    halted.federation = stopped
    with pytest.raises(KeyboardInterrupt):
        halted.build()
    again = stage("halted", "trainer.checkpoint_every_n_steps=4")
    assert again.key == halted.key
    kept = load_file(again.build().path / "state.safetensors")
    assert "train vflgan: goes on at 4 of 10" in capfd.readouterr().out
    assert [name for name, value in whole.items() if not kept[name].equal(value)] == []
    assert not torch.equal(kept["step"], torch.tensor(4))


def test_parties_in_processes_of_their_own_come_to_the_same_bits(compose: Callable, tmp_path: Path):
    def state(transport: str) -> dict[str, torch.Tensor]:
        words = [*TINY, "design=vflgan", f"paths.outputs={tmp_path / transport}"]
        run = Cell(compose(*words, f"gan.transport={transport}"))
        return load_file(vflgan.models(run)[0].build().path / "state.safetensors")

    local, gloo = state("local"), state("gloo")
    assert local and local.keys() == gloo.keys()
    assert [name for name, value in local.items() if not gloo[name].equal(value)] == []


def test_the_nearest_of_ten_is_published_and_is_no_guarantee(compose: Callable, outputs: Path):
    words = [*TINY, f"paths.outputs={outputs}", "design=vflgan", "gan.select=best_fd"]
    first_layer = ["privacy=first_layer", "gan.privacy.first_layer.noise_multiplier=1"]
    words += [*first_layer, "gan.privacy.first_layer.epsilon=null", "eval=[fd_raw]"]
    record = execute(compose(*words, "gan.statistics=own"), "test")
    account = record["rows"][-1]["privacy"]
    assert account["epsilon_record"] is None
    for reason in ("raw records", "own statistics", "distance to the training rows"):
        assert reason in account["no_guarantee"]
    assert published.cells(record)[1][-1][-1] == "no guarantee"
    generators = vflgan.models(Cell(compose(*words)))[0]
    state = load_file(generators.build().path / "state.safetensors")
    assert state["distances"].isfinite().all()


def test_each_replica_is_of_its_own_seed(compose: Callable, outputs: Path):
    def tables(*words: str) -> torch.Tensor:
        run = Cell(compose(*TINY, f"paths.outputs={outputs}", "design=vflgan", *words))
        published = vflgan.SyntheticTables(run, vflgan.lines(run)[0])
        return load_file(published.build().path / "tables.safetensors")["tables"]

    both, second = tables(), tables("seed=1", "gan.replicas=1")
    torch.testing.assert_close(both[1], second[0], rtol=1e-5, atol=1e-5)


def test_stages_may_be_left_out(compose: Callable, outputs: Path):
    run = Cell(compose(*TINY, f"paths.outputs={outputs}", "stages=[samples]"))
    assert {stage.name for stage in walk(vflgan.targets(run))} == {
        "columns",
        "federation",
        "tables",
    }


BAD = {
    "gan.partition=columns dataset=digits_halves": [
        "gan.partition=columns: ",
        "gan.partition=halves",
    ],
    "gan.partition=top": ["gan.partition=top: ", "halves, left_right, interleaved, columns"],
    "gan.replicas=0": ["gan.replicas=0: ", "at least 1"],
    "method=salun": ["method=salun: ", "federated generators"],
    "method=finetune": ["method=finetune: ", "federated generators", "method=original"],
    "design=cyclegan": ["design", "cyclegan", "vflgan"],
    "gan.design.vertigan.averaging_interval=0": ["averaging_interval=0: ", "at least 1"],
    "gan.design.local=null": ["gan.design.local._target_: "],
    "gan.protected=other privacy=first_layer": ["gan.protected=other: ", "must be one of design"],
    "dataset=digits model=gan_digits": [
        "dataset=digits: ",
        "is of images",
        "dataset=digits_halves",
    ],
    "stages=[oracle]": ["stages=", "pretrain, samples, evaluate"],
    "eval=[kid_oracle]": ["eval.kid_oracle: ", "another kind of model"],
    "dataset=gauss_pair eval=[fd_oracle,tstr]": [
        "eval.fd_oracle: ",
        "the rows of dataset=gauss_pair are none. Type 'eval=[tstr]', or dataset=digits_halves",
    ],
    "dataset=gauss_pair eval=[fd_oracle]": ["eval.fd_oracle: ", "Type 'eval=[fd_raw]', or"],
    "dataset=gauss_pair dataset.records=3": ["dataset=gauss_pair: leaves 3 training rows"],
    "gan.audit.replicas=64": ["gan.audit is null", "Type audit=published, or leave"],
    "dataset=wine_red dataset.root=/nowhere": ["dataset.root=/nowhere: ", "no such file"],
    "model.pretrain.batch_size=1298": ["batch_size=1298: there are 1297 training rows", "=648"],
    "audit=published model.pretrain.batch_size=1297": ["batch_size=1297: there are 1296"],
    "model.gan.server=[0]": ["model.gan.server=[0]: ", "one or more widths"],
    "privacy=[none,dpsgd] gan.privacy.dpsgd.noise_multiplier=1e-6": [
        "gan.privacy.dpsgd.noise_multiplier=1e-06: too little",
        "of 0.3 and more. Type gan.privacy.dpsgd.noise_multiplier=0.3",
    ],
    "privacy=dpsgd gan.statistics=dp gan.statistics_noise_multiplier=1e-6": [
        "gan.statistics_noise_multiplier=1e-06: too little",
    ],
    "held_out.share=0.5": ["held_out.share=0.5: is of images", "Type held_out.share=0.0"],
    "design=[]": ["design=[]: nothing would be trained"],
    "design=[] privacy=[dpsgd] gan.privacy.dpsgd.epsilon=10": ["design=[]: nothing would be"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_one_line(words: str, complaint: Callable[..., list[str]]):
    (line,) = complaint("experiment=vflgan", *words.split())
    for part in BAD[words]:
        assert part in line


def test_files_of_parties_say_who_holds_what(complaint: Callable[..., list[str]], tmp_path: Path):
    for name in ("x,y,z", "u"):
        row = ",".join("1" for _ in name.split(","))
        (tmp_path / f"{name[0]}.csv").write_text("\n".join([name, *[row] * 40]) + "\n")
    words = ["experiment=vflgan", "dataset=table", "gan.statistics=own"]
    roots = f"dataset.root=[{tmp_path / 'x.csv'},{tmp_path / 'u.csv'}]"
    (line,) = complaint(*words, roots)
    assert line.startswith("error: gan.partition=halves: dataset.root says which columns")
    assert line.endswith("Type gan.partition=columns")
    words += [f"dataset.root={tmp_path / 'x.csv'}", "dataset.parties=[[x],[y,w]]"]
    (line,) = complaint(*words)
    assert "halves: dataset.parties says" in line
    (line,) = complaint(*words, "gan.partition=columns")
    assert "there is no column w. List every column once in dataset.parties" in line


def test_a_table_is_no_data_set_of_a_denoiser(complaint: Callable[..., list[str]]):
    (line,) = complaint("dataset=gauss_pair", "model=unet_tiny")
    assert line.startswith("error: dataset=gauss_pair: is a table") and "experiment=vflgan" in line
