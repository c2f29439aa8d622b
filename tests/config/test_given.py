"""method=given: weights that somebody else unlearned, made by a script that knows nothing of us."""

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from elsewhere import FILE, TABLE, made_elsewhere, with_rows
from runs import Cell
from safetensors.torch import load_file, save_file

from unrelearn import hub
from unrelearn.config import composed
from unrelearn.config.given import completed
from unrelearn.config.sweep import resolved
from unrelearn.diffusion import theirs
from unrelearn.diffusion.salun_unet import SalunUNet, to_lineage
from unrelearn.errors import UsageError

UNLEARN = "stages=[pretrain,unlearn]"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_elsewhere(tmp_path_factory.getbasetemp() / "elsewhere", "--steps", "150")


def words(folder: Path, *more: str) -> list[str]:
    """As run.py has them."""
    return completed(
        ["method=given", f"method.checkpoint={folder}", "forget=7", "attack=none", *more]
    )


def read(compose: Callable, folder: Path, *more: str) -> dict[str, torch.Tensor]:
    """The weights as a run has them, in our order."""
    cell = Cell(compose(*words(folder, *more), UNLEARN), "")
    cell.complete()
    return load_file(cell.models[-1].weights / FILE)


def refused(compose: Callable, folder: Path, *more: str) -> str:
    """The one line with which they are refused."""
    with pytest.raises(UsageError) as error:
        read(compose, folder, *more)
    (line,) = error.value.problems
    assert "\n" not in line and "Type " in line
    return line


def advice(line: str) -> list[str]:
    return shlex.split(line.rpartition("Type ")[2])


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def saved(folder: Path, copy: Path, dtype: torch.dtype = torch.float32, **how: str) -> Path:
    """A copy as diffusers writes it otherwise."""
    copy.mkdir(parents=True)
    shutil.copy(folder / "scheduler_config.json", copy)
    UNet2DModel.from_pretrained(folder, torch_dtype=dtype).save_pretrained(copy, **how)
    return copy


# ------------------------------------------------------------------------------------- what is read


def test_weights_are_read_in_pieces_and_in_half_precision(
    compose: Callable, made: Path, tmp_path: Path
):
    given = load_file(made / "theirs" / FILE)
    pieces = saved(made / "theirs", tmp_path / "pieces", max_shard_size="60KB")
    assert len([*pieces.glob("*.safetensors")]) > 1
    assert equal(read(compose, pieces), given)
    for variant, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        folder = saved(made / "theirs", tmp_path / variant, dtype, variant=variant)
        rounded = {name: value.to(dtype).float() for name, value in given.items()}
        assert equal(read(compose, folder), rounded)


def test_the_average_is_taken_where_there_is_one(compose: Callable, made: Path, tmp_path: Path):
    saved(made / "original", tmp_path / "unet")
    saved(made / "theirs", tmp_path / "unet_ema")
    ema, raw = (load_file(made / name / FILE) for name in ("theirs", "original"))
    assert equal(read(compose, tmp_path), ema)
    assert equal(read(compose, tmp_path, "method.weights=raw"), raw)


def test_the_shape_and_the_schedule_that_lie_with_the_weights_need_not_be_typed(made: Path):
    typed = words(made / "theirs", "dataset=folder", f"model.checkpoint={made / 'original'}")
    added = dict(word.split("=", 1) for word in typed if word.startswith(("model.", "dataset.")))
    assert added["dataset.image_size"] == "8" and added["dataset.grayscale"] == "true"
    assert added["model.unet.block_out_channels"] == "[16,32]"
    assert added["model.weights"] == "raw"
    assert added["model.schedule.prediction_type"] == "epsilon"
    assert words(made / "theirs", "model.schedule.prediction_type=sample")[-1:] != ["epsilon"]


# --------------------------------------------------------------- what does not lie with the weights


def test_labels_in_another_order_are_seen_in_the_losses(
    compose: Callable, made: Path, tmp_path: Path
):
    order = [0, 2, 1, 3, 4, 5, 6, 7, 9, 8, 10]
    folder = with_rows(made / "theirs", tmp_path / "shuffled", order)
    line = refused(compose, folder)
    assert "its labels stand in another order" in line
    assert advice(line) == ["method.labels=[0,2,1,3,4,5,6,7,9,8]"]
    assert equal(read(compose, folder, *advice(line)), load_file(made / "theirs" / FILE))


def test_a_null_label_before_the_classes_is_seen_in_the_losses(
    compose: Callable, made: Path, tmp_path: Path
):
    folder = with_rows(made / "theirs", tmp_path / "first", [10, *range(10)])
    line = refused(compose, folder)
    assert advice(line) == ["method.null_label=first"]
    assert equal(read(compose, folder, *advice(line)), load_file(made / "theirs" / FILE))


def test_without_a_null_label_what_needs_one_is_asked_for_in_one_line(
    compose: Callable, made: Path, tmp_path: Path
):
    folder = with_rows(made / "theirs", tmp_path / "none", [*range(10)])
    line = refused(compose, folder)
    assert "10 rows for 10 classes" in line
    assert equal(
        read(compose, folder, *advice(line)),
        load_file(made / "theirs" / FILE)
        | {TABLE: load_file(made / "theirs" / FILE)[TABLE][[*range(10), 9]]},
    )
    guided = [word.replace("[1.0]", "[2.0]") for word in advice(line)]
    assert "can not be guided" in refused(compose, folder, *guided)
    line = refused(compose, made / "theirs", *advice(line))  # which has that row
    assert line.startswith("method.null_label=none: ") and advice(line) == [
        "method.null_label=last"
    ]


def test_what_a_network_predicts_is_read_or_seen_in_its_answers(compose: Callable, tmp_path: Path):
    folder = made_elsewhere(tmp_path, "--steps", "60", "--prediction", "v_prediction") / "theirs"
    given = load_file(folder / FILE)
    assert equal(read(compose, folder), given)
    typed = refused(compose, folder, "model.schedule.prediction_type=epsilon")
    assert "was trained with prediction_type=v_prediction" in typed
    file = folder / "scheduler_config.json"
    file.write_text(file.read_text().replace("v_prediction", "epsilon"))
    line = refused(compose, folder)
    assert line.endswith(f'Type "prediction_type": "v_prediction" into {file}')
    file.unlink()
    line = refused(compose, folder)
    assert "answers as one that predicts v_prediction" in line
    assert equal(read(compose, folder, *advice(line)), given)


def test_a_network_that_knows_nothing_is_not_accused():
    """Its losses are as good in any order."""
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(9).repeat_interleave(16)
    accused = 0
    for _ in range(20):
        seen = 1 + 0.1 * torch.randn(11, len(labels), generator=g)
        accused += theirs.other_order(seen, labels, range(10), "last") is not None
    assert accused == 0
    assert theirs.other_prediction(torch.ones(3, 8) + 0.1, "epsilon") is None


# ---------------------------------------------------------------------------------------- bad input


@pytest.fixture
def broken(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "theirs", tmp_path / "broken"))


def test_what_is_no_denoiser_is_refused(compose: Callable, broken: Path):
    for config, named in (
        ({"_class_name": "AutoencoderKL"}, "a AutoencoderKL"),
        ({"architectures": ["ViTForImageClassification"]}, "a ViTForImageClassification"),
    ):
        (broken / "config.json").write_text(json.dumps(config))
        line = refused(compose, broken)
        assert line.startswith(f"method.checkpoint={broken}: can not be read") and named in line


def test_a_shape_that_is_none_is_refused(compose: Callable, broken: Path):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"down_block_types": 3}))
    assert refused(compose, broken).startswith(f"method.checkpoint={broken}: can not be read")


def test_weights_that_are_no_numbers_are_refused(compose: Callable, broken: Path):
    state = load_file(broken / FILE)
    state["conv_in.bias"][0] = float("nan")
    save_file(state, broken / FILE, metadata={"format": "pt"})
    assert "not finite" in refused(compose, broken)


def test_another_number_of_classes_is_refused(compose: Callable, made: Path, tmp_path: Path):
    line = refused(compose, with_rows(made / "theirs", tmp_path / "five", [0, 1, 2, 3, 4]))
    assert "[8, 1, 1, 5]" in line and "[8, 1, 1, 11]" in line
    assert line.startswith("method.checkpoint=") and "model.checkpoint" not in line


def test_a_pickle_is_not_opened(compose: Callable, broken: Path):
    (broken / FILE).rename(broken / "diffusion_pytorch_model.bin")
    line = refused(compose, broken)
    assert "is a pickle, which is not opened" in line


def test_a_folder_that_was_half_downloaded_is_refused(
    compose: Callable, made: Path, broken: Path, tmp_path: Path
):
    content = (broken / FILE).read_bytes()
    (broken / FILE).write_bytes(content[: len(content) // 2])
    assert f"{FILE} is not whole: download it again" in refused(compose, broken)
    (broken / FILE).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert f"{FILE} is not whole: download it again" in refused(compose, broken)
    pieces = saved(made / "theirs", tmp_path / "pieces", max_shard_size="60KB")
    last = sorted(pieces.glob("*.safetensors"))[-1]
    last.unlink()
    assert f"{last.name} is missing: download it again" in refused(compose, pieces)
    index = pieces / f"{FILE}.index.json"
    for listed in ([3], {"weight_map": 3}, {"weight_map": {"conv_in.bias": 3}}, {}):
        index.write_text(json.dumps(listed))
        assert index.name in refused(compose, pieces)


def test_a_file_of_salun_is_read_with_its_average(compose: Callable, tmp_path: Path):
    """As its training writes it: [model, optimizer, step, ema], all 38.6 M weights."""
    with torch.device("meta"):
        network = SalunUNet(8, 1, 1, 11, attention_levels=())
    state = {name: torch.zeros(value.shape) for name, value in to_lineage(network).items()}
    average = state | {"conv_in.bias": torch.ones_like(state["conv_in.bias"])}
    torch.save([state, {}, 3, average], tmp_path / "ckpt.pth")
    cell = Cell(compose(*words(tmp_path / "ckpt.pth", "model=salun_unet"), UNLEARN), "")
    stage = cell.models[0].stage
    networks = stage.networks()
    assert networks.keys() == {"raw", "ema"}
    assert networks["ema"].conv_in.bias.eq(1).all() and networks["raw"].conv_in.bias.eq(0).all()
    assert [*stage.hashes()] == ["ckpt.pth"]


def test_a_file_of_salun_is_read_for_its_network_alone(compose: Callable, tmp_path: Path):
    torch.save([{"x": torch.zeros(1)}], tmp_path / "ckpt.pth")
    line = refused(compose, tmp_path / "ckpt.pth")
    assert line.startswith("method.checkpoint=") and "Type model=salun_unet" in line


def test_attacks_that_need_the_original_are_refused_without_it(compose: Callable, made: Path):
    for attack in ("row_transplant", "interpolation"):
        line = refused(compose, made / "theirs", f"attack={attack}")
        assert line.startswith(f"attack={attack}: reads the original model")


# ------------------------------------------------------------------------------------------ the hub


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The hub's cache, where it can not be asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub.fetched.cache_clear()
    return tmp_path / "hub"


def test_a_name_of_the_hub_without_a_network_is_refused(compose: Callable, no_network: Path):
    line = refused(compose, Path("someone/forgot-7"))
    assert line.startswith("method.checkpoint=someone/forgot-7: there is no such folder, and")


def test_a_name_of_the_hub_is_read_from_its_cache(compose: Callable, made: Path, no_network: Path):
    """In the layout of huggingface_hub: models--USER--NAME/refs/main and snapshots/COMMIT/."""
    place, commit = no_network / "models--someone--forgot-7", "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(made / "theirs", place / "snapshots" / commit)
    assert os.path.isdir(hub.fetched("someone/forgot-7")[0])
    assert equal(read(compose, Path("someone/forgot-7")), load_file(made / "theirs" / FILE))
    of_a_grid = resolved(composed(words(Path("someone/forgot-7"))), {"seed": 1})
    assert of_a_grid.method["checkpoint"] == str(place / "snapshots" / commit)
