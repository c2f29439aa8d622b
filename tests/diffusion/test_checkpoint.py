"""model.checkpoint: weights trained elsewhere in place of the pretraining."""

import json
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from diffusers.training_utils import EMAModel
from runs import Cell
from safetensors.torch import load_file, save_file
from tiny import SMALL, pretraining, train

from unrelearn.arguments import bounds
from unrelearn.config.models import Schedule
from unrelearn.diffusion import checkpoint, denoiser
from unrelearn.errors import UsageError

RUN = [
    *SMALL,
    "model.pretrain.max_steps=4",
    "unlearning.max_steps=3",
    "unlearning.batch_size=8",
    "attack=none",
    "sampler.num_images=4",
    "sampler.images_per_retained_class=1",
    "sampler.num_inference_steps=1",
    "sampler.guidance_scales=[1.0]",
]
UNLEARN = "stages=[pretrain,unlearn]"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw/ and ema/."""
    folder = tmp_path_factory.mktemp("original")
    train(pretraining(max_steps=2), folder).save(folder)
    return folder


def weights(pipeline: Cell, model: str = "unlearned") -> dict[str, torch.Tensor]:
    folder = getattr(pipeline, model).weights
    return load_file(folder / "diffusion_pytorch_model.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("label", ["raw", "ema"])
def test_unlearning_from_imported_weights_is_unlearning_from_the_pretrained_ones(
    label: str, compose: Callable
):
    ours = Cell(compose(*RUN, UNLEARN, f"model.weights={label}"), "")
    ours.complete()
    artefact = ours.store.find(ours.original.stage.spec).path
    for folder in (artefact, artefact / label):
        theirs = Cell(
            compose(*RUN, UNLEARN, f"model.weights={label}", f"model.checkpoint={folder}"), ""
        )
        theirs.complete()
        assert ours.unlearned.stage.spec.key != theirs.unlearned.stage.spec.key
        assert same(weights(ours, "original"), weights(theirs, "original")) and same(
            weights(ours), weights(theirs)
        )
    assert not same(weights(ours), weights(ours, "original"))


def test_either_of_two_imported_weights_may_be_asked_for_first(compose: Callable, pretrained: Path):
    expected = {
        label: load_file(pretrained / label / "diffusion_pytorch_model.safetensors")
        for label in ("raw", "ema")
    }
    for label in ("raw", "ema", "raw"):
        pipeline = Cell(
            compose(
                *RUN,
                "stages=[pretrain]",
                f"model.checkpoint={pretrained}",
                f"model.weights={label}",
            ),
            "",
        )
        pipeline.complete()
        assert same(weights(pipeline, "original"), expected[label])


def test_the_same_weights_are_imported_once_for_all_seeds_and_from_any_place(
    compose: Callable, pretrained: Path, tmp_path: Path
):
    moved = shutil.copytree(pretrained / "raw", tmp_path / "elsewhere" / "raw")
    keys, statuses = set(), []
    for seed, folder in ((0, pretrained / "raw"), (1, moved)):
        pipeline = Cell(
            compose(
                *RUN, UNLEARN, f"model.checkpoint={folder}", f"seed={seed}", "model.weights=raw"
            ),
            "",
        )
        pipeline.complete()
        keys.add(pipeline.unlearned.stage.spec.key)
        statuses += [
            used["status"] for used in pipeline.used.values() if used["stage"] == "pretrain"
        ]
    assert statuses == ["computed", "reused"] and len(keys) == 2


def test_an_imported_model_is_measured_like_any_other(compose: Callable):
    records, given = [], []
    for _ in range(2):
        pipeline = Cell(
            compose(
                *RUN,
                "oracle.max_steps=3",
                "oracle.main.width=8",
                "oracle.held_out.width=8",
                "method=original",
                *given,
            ),
            "",
        )
        records.append(pipeline.complete())
        given = [f"model.checkpoint={pipeline.store.find(pipeline.original.stage.spec).path}"]
    ours, theirs = (json.dumps(record["rows"][0]["metrics"], sort_keys=True) for record in records)
    assert ours == theirs and records[0]["rows"][0]["weights"] != records[1]["rows"][0]["weights"]


def refused(compose: Callable, *overrides: str) -> str:
    """The one line with which it is refused, before or while it is read."""
    with pytest.raises(UsageError) as error:
        Cell(compose(*RUN, *overrides), "").complete()
    (line,) = error.value.problems
    assert "\n" not in line and "Type model" in line
    return line


def test_weights_that_are_not_there_are_refused_also_where_others_were_imported(
    compose: Callable, pretrained: Path
):
    only_raw = f"model.checkpoint={pretrained / 'raw'}"
    for _ in range(2):
        line = refused(compose, UNLEARN, only_raw)
        assert line.startswith("model.weights=ema: ") and line.endswith(
            "holds only raw weights. Type model.weights=raw"
        )
        Cell(compose(*RUN, UNLEARN, only_raw, "model.weights=raw"), "").complete()


def test_a_checkpoint_of_another_number_of_classes_is_refused(
    compose: Callable, pretrained: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(pretrained / "ema", tmp_path / "ema"))
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    tensors["class_embedding.weight"] = tensors["class_embedding.weight"][:5].clone()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config | {"num_class_embeds": 5}))
    line = refused(compose, UNLEARN, f"model.checkpoint={folder}")
    assert str(folder) in line and "[8, 1, 1, 5]" in line and "[8, 1, 1, 11]" in line
    assert "Type model.checkpoint=null" in line


def test_a_file_is_refused_for_another_network_than_that_of_its_authors(
    compose: Callable, tmp_path: Path
):
    torch.save([{"x": torch.zeros(1)}], tmp_path / "ckpt.pth")
    line = refused(compose, f"model.checkpoint={tmp_path / 'ckpt.pth'}")
    assert (
        line.startswith(f"model.checkpoint={tmp_path / 'ckpt.pth'}: ")
        and "Type model=salun_unet" in line
    )


def test_a_file_that_is_not_such_a_checkpoint_is_refused(compose: Callable, tmp_path: Path):
    torch.save([{"x": torch.zeros(1)}], tmp_path / "ckpt.pth")
    with pytest.raises(UsageError) as error:
        Cell(
            compose(
                "model=salun_unet",
                f"model.checkpoint={tmp_path / 'ckpt.pth'}",
                "dataset=cifar10",
                f"paths.data={tmp_path}",
                "stages=[pretrain]",
                "model.weights=raw",
            ),
            "",
        ).complete()
    (line,) = error.value.problems
    assert "do not fit this network" in line and "Type model.checkpoint=FILE" in line


def test_a_checkpoint_that_is_not_there_is_refused(compose: Callable):
    line = refused(compose, "model.checkpoint=/no/such/folder")
    assert (
        line
        == "model.checkpoint=/no/such/folder: no such file or folder. Type model.checkpoint=null to"
        " train the model here"
    )


def test_a_folder_that_holds_no_network_is_refused(compose: Callable, tmp_path: Path):
    line = refused(compose, UNLEARN, f"model.checkpoint={tmp_path}")
    assert line.startswith(f"model.checkpoint={tmp_path}: can not be read as a UNet2DModel")


# ----------------------------------------------------------------------- what lies with the weights


def validated(compose: Callable, folder: Path, *overrides: str) -> list[str]:
    """The problems before anything is computed; [] if there are none."""
    try:
        compose(*RUN, UNLEARN, f"model.checkpoint={folder}", *overrides)
    except UsageError as error:
        return error.problems
    return []


def scheduled(pretrained: Path, folder: Path, **changes) -> Path:
    """A copy of the EMA weights whose scheduler_config.json says something else; None takes a key
    away.
    """
    shutil.copytree(pretrained / "ema", folder)
    file = folder / "scheduler_config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(
        json.dumps(
            {
                key: value
                for key, value in config.items()
                if value is not None or key == "trained_betas"
            }
        )
    )
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"prediction_type": "v_prediction"},
        {"prediction_type": "sample", "num_train_timesteps": 500},
        {"beta_start": 0.00085, "beta_end": 0.012},
        {"predict_epsilon": False, "prediction_type": None},
    ],
)
def test_weights_of_another_schedule_are_refused_with_what_makes_it_theirs(
    compose: Callable, pretrained: Path, tmp_path: Path, changes: dict
):
    folder = scheduled(pretrained, tmp_path / "ema", **changes)
    [line] = validated(compose, folder)
    file = folder / "scheduler_config.json"
    differing = {"prediction_type": "sample"} if "predict_epsilon" in changes else changes
    order = ("num_train_timesteps", "beta_start", "beta_end", "prediction_type")
    settings = [f"{key}={differing[key]}" for key in order if key in differing]
    given = ", ".join(settings)
    assert line.startswith(
        f"model.checkpoint={folder}: was trained with {given} ({file}), and model.schedule says "
    )
    advice = line.split(" Type ")[1].split()
    assert advice == [f"model.schedule.{setting}" for setting in settings]
    assert validated(compose, folder, *advice) == []


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"beta_schedule": "squaredcos_cap_v2"}, "beta_schedule=squaredcos_cap_v2"),
        (
            {"beta_schedule": "sigmoid", "prediction_type": "flow_prediction"},
            "beta_schedule=sigmoid",
        ),
        ({"prediction_type": "flow_prediction"}, "prediction_type=flow_prediction"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas=[0.1, 0.2]"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr=True"),
        ({"num_train_timesteps": 4000}, "num_train_timesteps=4000"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "a FlowMatchEulerDiscreteScheduler"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "a ScoreSdeVeScheduler"),
        ({"_class_name": "Ours"}, "a Ours"),
    ],
)
def test_a_schedule_that_can_not_be_expressed_is_refused_by_name(
    compose: Callable, pretrained: Path, tmp_path: Path, changes: dict, named: str
):
    [line] = validated(compose, scheduled(pretrained, tmp_path / "ema", **changes))
    assert (
        f": was trained with {named} (" in line
        and "model.schedule can not express; allowed: " in line
    )
    assert line.endswith("Type model.checkpoint=null to pretrain here")


def test_what_an_older_scheduler_file_leaves_out_is_the_default_of_its_class(
    compose: Callable, pretrained: Path, tmp_path: Path
):
    left_out = dict.fromkeys(
        ("beta_schedule", "beta_start", "beta_end", "prediction_type", "rescale_betas_zero_snr")
    )
    assert validated(compose, scheduled(pretrained, tmp_path / "ema", **left_out)) == []
    shutil.rmtree(tmp_path / "ema")
    [line] = validated(
        compose,
        scheduled(pretrained, tmp_path / "ema", **left_out, _class_name="HeunDiscreteScheduler"),
    )
    assert "beta_start=0.00085, beta_end=0.012" in line


def test_what_the_schedule_can_express_is_what_the_configuration_allows():
    kinds = {field.name: field.metadata["kind"] for field in fields(Schedule)}
    assert get_args(kinds["prediction_type"]) == checkpoint.PREDICTIONS
    assert get_args(kinds["beta_schedule"]) == checkpoint.BETA_SCHEDULES
    assert bounds(kinds["num_train_timesteps"])[1] == checkpoint.MAX_TIMESTEPS


def test_where_no_schedule_lies_with_the_weights_the_one_assumed_is_said(
    compose: Callable, pretrained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    alone = Path(shutil.copytree(pretrained / "ema", tmp_path / "ema"))
    for folder, assumed in ((alone, False), (alone, True)):
        if assumed:
            (folder / "scheduler_config.json").unlink()
        pipeline = Cell(compose(*RUN, "stages=[pretrain]", f"model.checkpoint={folder}"), "")
        pipeline.complete()
        said = capsys.readouterr().out.replace("\n", " ")
        assert ("no schedule lies with the weights; assumed is model.schedule" in said) == assumed
        assert ("prediction_type=epsilon" in said) == assumed
        assert pipeline.store.find(pipeline.original.stage.spec).meta["schedule_assumed"] == assumed


def test_a_pipeline_of_diffusers_is_read_with_its_schedule(
    compose: Callable, pretrained: Path, tmp_path: Path
):
    network = denoiser.load(pretrained / "raw")
    DDPMPipeline(network, DDPMScheduler(prediction_type="sample")).save_pretrained(
        tmp_path / "whole"
    )
    raw = ["model.weights=raw", "model.schedule.prediction_type=sample"]
    for folder in (tmp_path / "whole", tmp_path / "whole" / "unet"):
        [line] = validated(compose, folder, "model.weights=raw")
        assert (
            "was trained with prediction_type=sample" in line
            and "scheduler/scheduler_config.json" in line
        )
        pipeline = Cell(compose(*RUN, "stages=[pretrain]", f"model.checkpoint={folder}", *raw), "")
        pipeline.complete()
        assert same(weights(pipeline, "original"), network.state_dict())


def test_a_pipeline_with_other_parts_is_refused(
    compose: Callable, pretrained: Path, tmp_path: Path
):
    shutil.copytree(pretrained / "raw", tmp_path / "unet")
    (tmp_path / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "LDMPipeline",
                "vqvae": ["diffusers", "VQModel"],
                "unet": ["diffusers", "UNet2DModel"],
                "scheduler": ["diffusers", "DDIMScheduler"],
                "safety_checker": [None, None],
            }
        )
    )
    [line] = validated(compose, tmp_path)
    assert line.startswith(f"model.checkpoint={tmp_path}: is a pipeline with vqvae, ")


def test_averaged_weights_are_known_by_their_folder_and_by_what_diffusers_writes(
    compose: Callable, pretrained: Path, tmp_path: Path
):
    """The folder that diffusers' training scripts keep: out/checkpoint-5/unet and unet_ema,
    out/scheduler.
    """
    kept = tmp_path / "checkpoint-5"
    network = denoiser.load(pretrained / "raw")
    network.save_pretrained(kept / "unet")
    average = EMAModel(
        network.parameters(), decay=0.5, model_cls=type(network), model_config=network.config
    )
    with torch.no_grad():
        average.shadow_params[0].add_(1.0)
    average.save_pretrained(kept / "unet_ema")
    shutil.copytree(kept / "unet_ema", tmp_path / "average")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "scheduler")
    for folder in (kept, kept / "unet_ema"):
        assert "prediction_type=v_prediction" in validated(compose, folder)[0]
    shutil.rmtree(tmp_path / "scheduler")
    for folder in (kept, kept / "unet_ema", tmp_path / "average"):
        read = denoiser.load_checkpoint(folder, image_size=8, channels=1, num_classes=10)
        assert read.keys() == ({"raw", "ema"} if folder == kept else {"ema"})
        assert torch.equal(read["ema"].conv_in.weight, network.conv_in.weight + 1.0)
        assert validated(compose, folder) == []
    assert [checkpoint.label(Path(name)) for name in ("my-ema", "non_ema", "cinema")] == [
        "ema",
        "raw",
        "raw",
    ]


def test_weights_in_half_precision_are_read(
    pretrained: Path, tmp_path: Path, capfd: pytest.CaptureFixture
):
    network = denoiser.load(pretrained / "ema")
    network.half().save_pretrained(tmp_path / "ema", variant="fp16")
    assert [path.name for path in (tmp_path / "ema").glob("*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    read = denoiser.load_checkpoint(tmp_path / "ema", image_size=8, channels=1, num_classes=10)[
        "ema"
    ]
    assert all(value.dtype == torch.float32 for value in read.parameters())
    assert same(
        read.state_dict(), {name: value.float() for name, value in network.state_dict().items()}
    )
    shutil.copy(
        tmp_path / "ema" / "diffusion_pytorch_model.fp16.safetensors",
        tmp_path / "ema" / "diffusion_pytorch_model.bf16.safetensors",
    )
    with pytest.raises(UsageError, match="holds the variants bf16, fp16; keep one of them"):
        denoiser.load_checkpoint(tmp_path / "ema", image_size=8, channels=1, num_classes=10)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "last.pt"])
def test_pickled_weights_are_refused_in_one_line(
    compose: Callable, pretrained: Path, tmp_path: Path, name: str, capfd: pytest.CaptureFixture
):
    folder = Path(shutil.copytree(pretrained / "ema", tmp_path / "ema"))
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": torch.zeros(1)}, folder / name)
    [line] = validated(compose, folder)
    with pytest.raises(UsageError) as error:
        denoiser.load_checkpoint(folder, image_size=8, channels=1, num_classes=10)
    assert error.value.problems == [line] and f"{name} is a pickle, which is not opened" in line
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"center_input_sample": True}, "trained on images in [0, 1]"),
        ({"class_embed_type": "timestep"}, "class_embed_type=timestep"),
        ({"_class_name": "VQModel"}, "a VQModel"),
        ({"num_class_embeds": 5}, "is [8, 1, 1, 5]"),
    ],
)
def test_a_network_for_other_data_is_refused_before_anything_is_computed(
    compose: Callable, pretrained: Path, tmp_path: Path, changes: dict, named: str
):
    folder = Path(shutil.copytree(pretrained / "ema", tmp_path / "ema"))
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | changes)
    )
    [line] = validated(compose, folder)
    assert (
        named in line
        and line.startswith(f"model.checkpoint={folder}: ")
        and "Type model.checkpoint=" in line
    )


@pytest.mark.parametrize("file", ["config.json", "scheduler_config.json"])
def test_a_damaged_file_beside_the_weights_is_one_line(
    compose: Callable, pretrained: Path, tmp_path: Path, file: str
):
    folder = Path(shutil.copytree(pretrained / "ema", tmp_path / "ema"))
    (folder / file).write_text("{\n")
    [line] = validated(compose, folder)
    assert file in line and "\n" not in line
