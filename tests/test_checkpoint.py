"""model.checkpoint: weights trained elsewhere in place of the pretraining."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SMALL, pretraining, train

from unrelearn.errors import UsageError
from unrelearn.pipeline import Pipeline

RUN = [*SMALL, "model.pretrain.max_steps=4", "unlearning.max_steps=3", "unlearning.batch_size=8", "attack=none",
       "sampler.num_images=4", "sampler.images_per_retained_class=1", "sampler.num_inference_steps=1",
       "sampler.guidance_scales=[1.0]"]
UNLEARN = "stages=[pretrain,unlearn]"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw/ and ema/."""
    folder = tmp_path_factory.mktemp("pretrained")
    train(pretraining(max_steps=2), folder).save(folder)
    return folder


def weights(pipeline: Pipeline, model: str = "unlearned") -> dict[str, torch.Tensor]:
    folder = getattr(pipeline, model).weights(pipeline.store, pipeline.cfg["model"]["weights"])
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("label", ["raw", "ema"])
def test_unlearning_from_imported_weights_is_unlearning_from_the_pretrained_ones(label: str, compose: Callable):
    ours = Pipeline(compose(*RUN, UNLEARN, f"model.weights={label}"), "")
    ours.run()
    artefact = ours.store.find(ours.pretrain_spec).path
    for folder in (artefact, artefact / label):
        theirs = Pipeline(compose(*RUN, UNLEARN, f"model.weights={label}", f"model.checkpoint={folder}"), "")
        theirs.run()
        assert ours.unlearned.spec.key != theirs.unlearned.spec.key
        assert same(weights(ours, "pretrained"), weights(theirs, "pretrained")) and same(weights(ours), weights(theirs))
    assert not same(weights(ours), weights(ours, "pretrained"))


def test_either_of_two_imported_weights_may_be_asked_for_first(compose: Callable, pretrained: Path):
    expected = {label: load_file(pretrained / label / "diffusion_pytorch_model.safetensors") for label in ("raw", "ema")}
    for label in ("raw", "ema", "raw"):
        pipeline = Pipeline(compose(*RUN, "stages=[pretrain]", f"model.checkpoint={pretrained}", f"model.weights={label}"), "")
        pipeline.run()
        assert same(weights(pipeline, "pretrained"), expected[label])


def test_the_same_weights_are_imported_once_for_all_seeds_and_from_any_place(
        compose: Callable, pretrained: Path, tmp_path: Path):
    moved = shutil.copytree(pretrained / "raw", tmp_path / "elsewhere" / "raw")
    keys, statuses = set(), []
    for seed, folder in ((0, pretrained / "raw"), (1, moved)):
        pipeline = Pipeline(compose(*RUN, UNLEARN, f"model.checkpoint={folder}", f"seed={seed}", "model.weights=raw"), "")
        pipeline.run()
        keys.add(pipeline.unlearned.spec.key)
        statuses += [used["status"] for used in pipeline.used.values() if used["stage"] == "pretrain"]
    assert statuses == ["computed", "reused"] and len(keys) == 2


def test_an_imported_model_is_measured_like_any_other(compose: Callable):
    records, given = [], []
    for _ in range(2):
        pipeline = Pipeline(compose(*RUN, "oracle.max_steps=3", "oracle.main.width=8", "oracle.held_out.width=8",
                                    "method=original", *given), "")
        records.append(pipeline.run())
        given = [f"model.checkpoint={pipeline.store.find(pipeline.pretrain_spec).path}"]
    ours, theirs = (json.dumps(record["rows"][0]["metrics"], sort_keys=True) for record in records)
    assert ours == theirs and records[0]["rows"][0]["weights"] != records[1]["rows"][0]["weights"]


def refused(compose: Callable, *overrides: str) -> str:
    """The one line with which it is refused, before or while it is read."""
    with pytest.raises(UsageError) as error:
        Pipeline(compose(*RUN, *overrides), "").run()
    (line,) = error.value.problems
    assert "\n" not in line and "Type model" in line
    return line


def test_weights_that_are_not_there_are_refused_also_where_others_were_imported(compose: Callable, pretrained: Path):
    only_raw = f"model.checkpoint={pretrained / 'raw'}"
    for _ in range(2):
        line = refused(compose, UNLEARN, only_raw)
        assert line.startswith("model.weights=ema: ") and line.endswith("holds only raw weights. Type model.weights=raw")
        Pipeline(compose(*RUN, UNLEARN, only_raw, "model.weights=raw"), "").run()


def test_a_checkpoint_of_another_number_of_classes_is_refused(compose: Callable, pretrained: Path, tmp_path: Path):
    folder = Path(shutil.copytree(pretrained / "ema", tmp_path / "ema"))
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    tensors["class_embedding.weight"] = tensors["class_embedding.weight"][:5].clone()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"num_class_embeds": 5}))
    line = refused(compose, UNLEARN, f"model.checkpoint={folder}")
    assert str(folder) in line and "[8, 1, 1, 5]" in line and "[8, 1, 1, 11]" in line
    assert "Type model.checkpoint=null" in line


def test_a_file_is_refused_for_another_network_than_that_of_its_authors(compose: Callable, tmp_path: Path):
    torch.save([{"x": torch.zeros(1)}], tmp_path / "ckpt.pth")
    line = refused(compose, f"model.checkpoint={tmp_path / 'ckpt.pth'}")
    assert line.startswith(f"model.checkpoint={tmp_path / 'ckpt.pth'}: ") and "Type model=salun_unet" in line


def test_a_file_that_is_not_such_a_checkpoint_is_refused(compose: Callable, tmp_path: Path):
    torch.save([{"x": torch.zeros(1)}], tmp_path / "ckpt.pth")
    with pytest.raises(UsageError) as error:
        Pipeline(compose("model=salun_unet", f"model.checkpoint={tmp_path / 'ckpt.pth'}",
                         "dataset=cifar10", f"paths.data={tmp_path}", "stages=[pretrain]", "model.weights=raw"), "").run()
    (line,) = error.value.problems
    assert "do not fit this network" in line and "Type model.checkpoint=FILE" in line


def test_a_checkpoint_that_is_not_there_is_refused(compose: Callable):
    line = refused(compose, "model.checkpoint=/no/such/folder")
    assert line == "model.checkpoint=/no/such/folder: no such file or folder. Type model.checkpoint=null to train the model here"


def test_a_folder_that_holds_no_network_is_refused(compose: Callable, tmp_path: Path):
    line = refused(compose, UNLEARN, f"model.checkpoint={tmp_path}")
    assert line.startswith(f"model.checkpoint={tmp_path}: can not be read as a UNet2DModel")
