"""What is refused of a folder of Stable Diffusion, and of what is asked of it: one line each,
before anything is computed.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_stable

from unrelearn.errors import UsageError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    return tiny_stable.write(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tiny_stable.photographs(tmp_path_factory.mktemp("data") / "imagenette2-320", 2, 1)


def changed(file: Path, **values) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


BROKEN: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "no text encoder": (lambda p: shutil.rmtree(p / "text_encoder"), ["(it has no text_encoder)"]),
    "a pickle": (
        lambda p: (p / "unet" / WEIGHTS).rename(p / "unet" / "diffusion_pytorch_model.bin"),
        ["unet: it holds no diffusion_pytorch_model.safetensors", ".bin is a pickle"],
    ),
    "half a file": (lambda p: cut(p / "vae" / WEIGHTS), ["vae: ", "not whole: download it again"]),
    "half of CLIP": (
        lambda p: cut(p / "text_encoder" / "model.safetensors"),
        ["text_encoder: model.safetensors is not whole: download it again"],
    ),
    "no merges": (
        lambda p: (p / "tokenizer" / "merges.txt").unlink(),
        ["tokenizer/ holds no vocab.json and merges.txt: download it again"],
    ),
    "no scheduler": (
        lambda p: shutil.rmtree(p / "scheduler"),
        ["scheduler/scheduler_config.json is missing: download it again"],
    ),
    "no index": (lambda p: (p / "model_index.json").unlink(), ["it holds no model_index.json"]),
    "half an index": (
        lambda p: (p / "model_index.json").write_text("{"),
        ["its model_index.json is not whole"],
    ),
    "another pipeline": (
        lambda p: changed(p / "model_index.json", _class_name="StableDiffusionXLPipeline"),
        ["a StableDiffusionXLPipeline, and read is a StableDiffusionPipeline"],
    ),
    "another vae": (
        lambda p: changed(p / "vae" / "config.json", _class_name="AutoencoderTiny"),
        ["vae is AutoencoderTiny, and not AutoencoderKL"],
    ),
    "inpainting": (
        lambda p: changed(p / "unet" / "config.json", in_channels=9),
        ["its unet reads 9 channels and its vae writes 4"],
    ),
    "another encoder": (
        lambda p: changed(p / "text_encoder" / "config.json", hidden_size=24),
        ["its unet reads states of 16 numbers and its text_encoder writes 24"],
    ),
    "more than captions": (
        lambda p: changed(p / "unet" / "config.json", addition_embed_type="text_time"),
        ["its unet has addition_embed_type=text_time"],
    ),
    "v-prediction": (
        lambda p: changed(
            p / "scheduler" / "scheduler_config.json", prediction_type="v_prediction"
        ),
        [
            "was trained with prediction_type=v_prediction",
            "model.schedule says epsilon",
            "Type model.schedule.prediction_type=v_prediction",
        ],
    ),
}
ASKED = {
    "model.latent.caption=a_photo": ["model.latent.caption=a_photo: must hold {} once"],
    "model.latent.caption={}_of_xxxxxxxxxxxxxxxxxx": ["needs ", "text encoder reads 16"],
    "model.weights=ema": ["model.weights=ema: a folder of diffusers holds one set of weights"],
    "dataset.image_size=18": ["dataset image size 18: ", "must be a multiple of 4"],
    "method=retrain": ["method=retrain: nobody can train Stable Diffusion again"],
    "method=selective_amnesia": ["method=selective_amnesia: draws uniform pixels"],
    "method=token_swap": ["method=token_swap: is for another kind of model"],
    "attack=textual_inversion": ["attack=textual_inversion: is for another kind of model"],
    "method=dimum method.memory=nearest_class": ["method.memory=nearest_class: looks at pixels"],
    "train_class_embedding=true": ["train_class_embedding=true: the text encoder is public"],
    "forget=abbey": ["forget=abbey: no such class"],
    "model.checkpoint=null": ["model.checkpoint=null: nobody trains Stable Diffusion here"],
    "model.checkpoint=nowhere": ["model.checkpoint=nowhere: is not read", "(no such folder)"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_line(compose, theirs: Path, root: Path, tmp_path: Path, name: str):
    breaks, parts = BROKEN[name]
    folder = Path(shutil.copytree(theirs, tmp_path / "sd"))
    breaks(folder)
    with pytest.raises(UsageError) as refused:
        compose(*tiny_stable.overrides(folder, root))
    (line,) = refused.value.problems
    assert line.startswith(f"model.checkpoint={folder}") and ". Type " in line
    for part in parts:
        assert part in line, line


@pytest.mark.parametrize("words", ASKED)
def test_what_can_not_be_asked_is_one_line(compose, theirs: Path, root: Path, words: str):
    pairs = [word.partition("=")[::2] for word in words.split()]
    spaced = [(k, v.replace("_", " ") if k.endswith("caption") else v) for k, v in pairs]
    given = [f"{k}='{v}'" if " " in v else f"{k}={v}" for k, v in spaced]
    with pytest.raises(UsageError) as refused:
        compose(*tiny_stable.overrides(theirs, root), *given)
    (line,) = refused.value.problems
    for part in ASKED[words]:
        assert part.replace("a_photo", "a photo") in line, line


def test_grey_images_and_a_single_file(compose, theirs: Path, root: Path, tmp_path: Path):
    with pytest.raises(UsageError) as refused:
        compose("model=stable_diffusion", f"model.checkpoint={theirs}", "dataset=digits")
    (line,) = refused.value.problems
    assert "images of 1 channels, and the autoencoder reads 3. Type dataset=imagenette" in line
    for name, said in (("v1-5.ckpt", "a pickle, which could"), ("v1-5.safetensors", "a file, of")):
        (tmp_path / name).write_bytes(b"0" * 100)
        with pytest.raises(UsageError) as refused:
            compose(*tiny_stable.overrides(tmp_path / name, root))
        (line,) = refused.value.problems
        assert f"({said}" in line and f"unpack_checkpoint.py {tmp_path / name} FOLDER" in line


def test_the_command_says_it_and_ends(complaint, theirs: Path, root: Path, tmp_path: Path):
    folder = Path(shutil.copytree(theirs, tmp_path / "sd"))
    shutil.rmtree(folder / "text_encoder")
    (line,) = complaint(*tiny_stable.overrides(folder, root))
    assert line.startswith(f"error: model.checkpoint={folder}: is not read as Stable Diffusion")


def test_without_transformers_it_is_said_what_to_type(
    compose, theirs: Path, root: Path, monkeypatch: pytest.MonkeyPatch
):
    from unrelearn.config import latents

    monkeypatch.setattr(latents, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as refused:
        compose(*tiny_stable.overrides(theirs, root))
    assert "Type pip install 'unrelearn[text]'" in refused.value.problems[0]


def test_half_precision_files_are_read_as_the_whole_ones(theirs: Path, tmp_path: Path):
    import torch
    from safetensors.torch import load_file, save_file

    from unrelearn.diffusion import pipelines

    folder = Path(shutil.copytree(theirs, tmp_path / "sd"))
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        whole = folder / part / f"{stem}.safetensors"
        half = {
            name: value.half() if value.is_floating_point() else value
            for name, value in load_file(whole).items()
        }
        save_file(half, folder / part / f"{stem}.fp16.safetensors", {"format": "pt"})
        assert pipelines.variant(folder, part, stem) is None  # both are there
        whole.unlink()
        assert pipelines.variant(folder, part, stem) == "fp16"
    assert pipelines.check(folder, tiny_stable.SCHEDULE) == []
    half, whole = pipelines.network(folder), pipelines.network(theirs)
    assert half.dtype == torch.float32
    for one, other in zip(half.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other.half().float())
    assert pipelines.encoder(folder).dtype == torch.float32
    assert pipelines.hashes(folder, "unet") != pipelines.hashes(theirs, "unet")


def test_a_weight_that_no_network_has_is_refused(theirs: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    from unrelearn.diffusion import pipelines

    folder = Path(shutil.copytree(theirs, tmp_path / "sd"))
    for part, load in (
        ("unet", pipelines.network),
        ("vae", pipelines.codec),
        ("text_encoder", pipelines.encoder),
    ):
        file = next((folder / part).glob("*.safetensors"))
        weights = load_file(file)
        name = sorted(weights)[0]
        weights["another.weight"] = weights.pop(name)
        save_file(weights, file, {"format": "pt"})
        with pytest.raises(UsageError) as refused:
            load(folder)
        assert f"({part}: " in refused.value.problems[0] and "another.weight" in str(refused.value)
