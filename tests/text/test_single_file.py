"""Stable Diffusion in one file of the original layout: the folder that is made of it is the one
that the file was made of, what is no such file is one line, and no pickle runs anything.
"""

import gzip
import json
import runpy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import original_layout
import pytest
import tiny_stable
import torch
from command import ROOT
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from unrelearn.diffusion import pipelines, single_file
from unrelearn.errors import UsageError

Weights = dict[str, Tensor]
FIRST = "model.diffusion_model.input_blocks.0.0.weight"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    return tiny_stable.write(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture
def tiny(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the kinds lie: v1, of the shapes of the tiny pipeline."""
    shipped = json.loads((single_file.CONFIGS / "v1.json").read_text())
    small = {name: json.loads((theirs / name).read_text()) for name in shipped}
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "v1.json").write_text(json.dumps(small))
    monkeypatch.setattr(single_file, "CONFIGS", folder)
    return folder


def written(file: Path, weights: Weights) -> Path:
    if file.suffix == ".safetensors":
        save_file({name: w.contiguous() for name, w in weights.items()}, file)
    else:
        torch.save({"state_dict": weights}, file)
    return file


def unpacked(file: Path, theirs: Path, **options: Any) -> Path:
    single_file.unpack(file, file.parent / "out", str(theirs / "tokenizer"), **options)
    return file.parent / "out"


def refusal(file: Path, theirs: Path, **options: Any) -> str:
    with pytest.raises(UsageError) as refused:
        unpacked(file, theirs, **options)
    (line,) = refused.value.problems
    assert not (file.parent / "out").exists()
    return line


@pytest.mark.parametrize("open_clip", [False, True])
@pytest.mark.parametrize("name", ["sd.safetensors", "sd.ckpt"])
def test_the_folder_is_the_one_that_the_file_was_made_of(
    tiny: Path, theirs: Path, tmp_path: Path, name: str, open_clip: bool
):
    file = written(tmp_path / name, original_layout.tensors(theirs, open_clip))
    folder = unpacked(file, theirs)
    assert pipelines.check(folder, tiny_stable.SCHEDULE) == []
    for load in (pipelines.network, lambda path: pipelines.codec(path).vae, pipelines.encoder):
        ours, wanted = load(folder).state_dict(), load(theirs).state_dict()
        assert ours.keys() == wanted.keys()
        assert all(torch.equal(ours[key], wanted[key]) for key in wanted)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    assert pipeline.tokenizer("a photo").input_ids == (
        CLIPTokenizer.from_pretrained(theirs / "tokenizer")("a photo").input_ids
    )
    assert pipeline.scheduler.config.steps_offset == 1


def test_half_precision_stays_as_it_lies(tiny: Path, theirs: Path, tmp_path: Path):
    weights = {name: w.half() for name, w in original_layout.tensors(theirs).items()}
    folder = unpacked(written(tmp_path / "sd.ckpt", weights), theirs)
    for file in folder.glob("*/*.safetensors"):
        assert {w.dtype for w in load_file(file).values()} == {torch.float16}


# what a pickle asks for


class Planted(dict):
    """Of a callback that Lightning keeps: would make a folder where it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        state, items = {"epoch": 3}, iter([("best", 1.0)])
        return Path.mkdir, (self.folder,), state, iter([1, 2]), items


def test_nothing_that_a_pickle_asks_for_is_run(tiny: Path, theirs: Path, tmp_path: Path):
    planted = tmp_path / "planted"
    weights = OrderedDict(original_layout.tensors(theirs))
    weights[FIRST] = torch.nn.Parameter(weights[FIRST])
    content = {
        "callbacks": {Planted: Planted(planted)},
        "hyper_parameters": Planted(planted),
        "state_dict": weights,
        "optimizer_states": [{"state": {0: {"step": 7, "exp_avg": torch.ones(2)}}}],
    }
    torch.save(content, tmp_path / "sd.ckpt")
    folder = unpacked(tmp_path / "sd.ckpt", theirs)
    assert not planted.exists()
    ours, wanted = pipelines.network(folder), pipelines.network(theirs)
    assert torch.equal(ours.conv_in.weight, wanted.conv_in.weight)
    with pytest.raises(AttributeError):  # a plain unpickling runs it, then fails on what it returns
        torch.load(tmp_path / "sd.ckpt", weights_only=False)
    assert planted.exists()


def test_a_view_is_read_as_it_is(tmp_path: Path):
    whole = torch.arange(24.0).reshape(4, 6)
    content = {
        "part": whole[1:, ::2].T,
        "bits": torch.ones(2).bfloat16(),
        "step": torch.ones(1, dtype=int),
    }
    torch.save(content, tmp_path / "x.pt")
    read = {name: t.read() for name, t in single_file.stored(tmp_path / "x.pt").items()}
    assert read.keys() == {"part", "bits"}
    assert torch.equal(read["part"], whole[1:, ::2].T) and read["bits"].dtype == torch.bfloat16


# what is refused


def without(weights: Weights, start: str) -> Weights:
    return {name: w for name, w in weights.items() if not name.startswith(start)}


BAD: dict[str, tuple[Callable[[Weights], Weights], list[str]]] = {
    "no layout": (
        lambda weights: {"conv_in.weight": torch.ones(2)},
        ["holds no model.diffusion_model.*, which is the unet", "Type a file with unet, vae and"],
    ),
    "no text encoder": (
        lambda weights: without(weights, "cond_stage_model."),
        ["holds no cond_stage_model.*, which is the text_encoder in the original layout"],
    ),
    "XL": (
        lambda weights: {**weights, "conditioner.embedders.0.weight": torch.ones(2)},
        ["is of Stable Diffusion XL. Type a file of 1.x or 2.x"],
    ),
    "another width": (
        lambda weights: {
            name: w[:, :8] if name.endswith("attn2.to_k.weight") else w
            for name, w in weights.items()
        },
        ["its unet reads states of 8 numbers, and not of 16"],
    ),
    "inpainting": (
        lambda weights: {**weights, FIRST: torch.ones(8, 9, 3, 3)},
        ["is no Stable Diffusion v1", f"no place for {FIRST} of shape [8, 9, 3, 3])"],
    ),
    "more": (
        lambda weights: {**weights, "control_model.a": torch.ones(2), "v_pred": torch.ones(2)},
        ["no place for control_model.a of shape [2] and 1 more)"],
    ),
    "more in a part": (
        lambda weights: {**weights, "first_stage_model.loss.logvar": torch.ones(2)},
        ["no place for first_stage_model.loss.logvar of shape [2])"],
    ),
    "less": (
        lambda weights: without(weights, FIRST),
        ["the file lacks unet conv_in.weight)"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_such_file_is_one_line(tiny: Path, theirs: Path, tmp_path: Path, name: str):
    change, parts = BAD[name]
    file = written(tmp_path / "sd.ckpt", change(original_layout.tensors(theirs)))
    line = refusal(file, theirs)
    assert line.startswith(f"{file}: ") and ". Type " in line
    for part in parts:
        assert part in line, line


def test_what_can_not_be_read_is_one_line(theirs: Path, tmp_path: Path):
    (tmp_path / "half.safetensors").write_bytes(b"0" * 100)
    torch.save({"a": torch.ones(2)}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name in ("nowhere.ckpt", "half.safetensors", "old.ckpt", "list.ckpt"):
        line = refusal(tmp_path / name, theirs)
        assert line.startswith(f"{tmp_path / name}: can not be read (")
        assert line.endswith("Type a whole .safetensors, or .ckpt as torch 1.6 and later write it")


def test_a_folder_that_is_not_empty_is_left_alone(theirs: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="is not an empty folder"):
        single_file.unpack(tmp_path / "sd.ckpt", theirs)
    with pytest.raises(UsageError, match="is not an empty folder"):
        single_file.unpack(tmp_path / "sd.ckpt", theirs / "model_index.json")


def test_what_shapes_do_not_tell_is_asked_for(tiny: Path, theirs: Path, tmp_path: Path):
    file = written(tmp_path / "sd.ckpt", original_layout.tensors(theirs))
    line = refusal(file, theirs, like="v2")
    assert line == f"--like v2: {file} has the shapes of v1. Type --like v1"
    small = json.loads((tiny / "v1.json").read_text())
    (tiny / "v1.json").rename(tiny / "v2.json")
    small["scheduler/scheduler_config.json"]["prediction_type"] = "v_prediction"
    (tiny / "v2-768.json").write_text(json.dumps(small))
    line = refusal(file, theirs)
    both = f"{file} has the shapes of v2 and v2-768. Type --like v2 or --like v2-768"
    assert line == f"--like: {both}"
    assert refusal(file, theirs, like="v1") == f"--like v1: {both}"
    folder = unpacked(file, theirs, like="v2-768")
    (line,) = pipelines.check(folder, tiny_stable.SCHEDULE)
    assert "Type model.schedule.prediction_type=v_prediction" in line


# what is shipped


@pytest.mark.parametrize("kind", ["v1", "v2", "v2-768"])
def test_the_networks_of_full_size(kind: str):
    configs = json.loads((single_file.CONFIGS / f"{kind}.json").read_text())
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel.from_config(configs["unet/config.json"])
        vae = diffusers.AutoencoderKL.from_config(configs["vae/config.json"])
        text = CLIPTextModel(CLIPTextConfig(**configs["text_encoder/config.json"]))
        networks = {"unet": unet, "vae": vae, "text_encoder": text}
        states = {part: network.state_dict() for part, network in networks.items()}
        weights = original_layout.renamed(states, layers=2, levels=4, open_clip=kind != "v1")
    counts = [sum(w.numel() for w in states[part].values()) for part in ("unet", "text_encoder")]
    assert counts == ([859520964, 123060480] if kind == "v1" else [865910724, 340387840])
    # as they are called in the published files
    assert FIRST in weights and "first_stage_model.decoder.up.3.upsample.conv.bias" in weights
    assert f"{single_file.PREFIXES['unet']}output_blocks.5.2.conv.weight" in weights
    stored = {n: single_file.Stored(tuple(w.shape), w.clone) for n, w in weights.items()}
    assert single_file._misfit(stored, configs) is None
    predicted = configs["scheduler/scheduler_config.json"]["prediction_type"]
    assert predicted == ("v_prediction" if kind == "v2-768" else "epsilon")


def test_the_words_of_clip_from_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its list is longer than what is read of it."""
    symbols = [chr(c) for c in range(33, 324) if c not in (*range(127, 161), 173)]
    first = ["i n", "t h", "th e</w>"]
    pairs = (f"{one} {other}" for one in symbols for other in symbols)
    merges = [*first, *(pair for pair in pairs if pair not in first)]
    (tmp_path / "with_words").mkdir()
    packed = gzip.compress("\n".join(["#version", *merges]).encode(), 1)
    (tmp_path / "with_words" / single_file.VOCABULARY).write_bytes(packed)
    monkeypatch.syspath_prepend(tmp_path)
    files = single_file.words("with_words", 49408)
    known = json.loads(files["tokenizer/vocab.json"])
    ids = {"!": 0, "a</w>": 320, "in": 512, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    assert {word: known[word] for word in ids} == ids and len(known) == 49408
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert tokenizer("the a").input_ids == [49406, known["the</w>"], 320, 49407]


@pytest.mark.parametrize("source", ["nowhere", "no/where", "unrelearn"])
def test_without_words_it_is_said_where_to_get_them(source: str, tmp_path: Path):
    with pytest.raises(UsageError) as refused:
        single_file.words(source, 49408)
    (line,) = refused.value.problems
    assert line.startswith(f"--tokenizer {source}: has 0 words of a tokenizer, and the text")
    assert line.endswith(
        "Type pip install open_clip_torch, or --tokenizer FOLDER with vocab.json and merges.txt"
    )


def test_a_tokenizer_of_other_words_is_refused(theirs: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"words of a tokenizer, and the text encoder knows 9\b"):
        single_file.words(str(theirs / "tokenizer"), 9)
    CLIPTokenizer.from_pretrained(theirs / "tokenizer").backend_tokenizer.save(
        str(tmp_path / "tokenizer.json")
    )
    known = len(json.loads((theirs / "tokenizer" / "vocab.json").read_text()))
    assert list(single_file.words(str(tmp_path), known)) == ["tokenizer/tokenizer.json"]


def test_the_script_says_what_to_type(
    tiny: Path,
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    script = str(ROOT / "scripts" / "unpack_checkpoint.py")
    file = written(tmp_path / "sd.safetensors", original_layout.tensors(theirs))
    words = [str(file), str(tmp_path / "out"), "--tokenizer", str(theirs / "tokenizer")]
    monkeypatch.setattr("sys.argv", [script, *words])
    for code, line in ((0, f"Type model.checkpoint={tmp_path / 'out'}"), (2, "is not an empty")):
        with pytest.raises(SystemExit) as end:
            runpy.run_path(script, run_name="__main__")
        assert end.value.code == code and line in "".join(capsys.readouterr())


def test_a_byte_that_has_turned_over_is_one_line(tiny: Path, theirs: Path, tmp_path: Path):
    file = written(tmp_path / "a.ckpt", original_layout.tensors(theirs))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255  # inside a tensor
    file.write_bytes(content)
    main = runpy.run_path(str(ROOT / "scripts" / "unpack_checkpoint.py"))["main"]
    with pytest.raises(UsageError) as error:
        main([str(file), str(tmp_path / "out"), "--tokenizer", str(theirs / "tokenizer")])
    (line,) = error.value.problems
    assert line.startswith(f"{file}: is damaged") and line.endswith("Download it again")
