"""The network: what is saved is what anyone loads with diffusers alone, and its initial values
follow the seed.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file, save_file
from tiny import SHORT_SCHEDULE as SCHEDULE
from tiny import network as new_network

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.sampling import sample
from unrelearn.errors import UsageError
from unrelearn.randomness import generator_for

tiny = partial(new_network, channels=3, num_classes=4, attention_levels=[1], dropout=0.1)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


def shape(network: UNet2DModel) -> dict:
    """Its configuration without diffusers' notes on itself; a tuple comes back as a list."""
    return {
        k: list(v) if isinstance(v, tuple) else v
        for k, v in network.config.items()
        if not k.startswith("_")
    }


# What a stranger types: diffusers and nothing of ours. Files are the arguments so that no test
# helper is in the way.
STRANGER = """
import sys
import torch
from diffusers import DDIMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

folder, given, result = sys.argv[1:]
denoiser = UNet2DModel.from_pretrained(folder)
scheduler = DDIMScheduler.from_pretrained(folder, timestep_spacing="trailing")
scheduler.set_timesteps(5)
start = load_file(given)
x_t = start["noise"]
with torch.no_grad():
    for t in scheduler.timesteps:
        eps = denoiser(x_t, t, class_labels=start["labels"]).sample
        x_t = scheduler.step(eps, t, x_t).prev_sample
save_file({"x_0": x_t} | {f"weights/{k}": v for k, v in denoiser.state_dict().items()}, result)
assert not [name for name in sys.modules if name.split(".")[0] == "unrelearn"]
"""


def test_diffusers_alone_loads_the_same_bits_and_draws_the_same_images(tmp_path: Path):
    network, labels = tiny(), torch.tensor([0, 3, 4])
    denoisers.save(network, tmp_path / "raw", SCHEDULE)
    noise = torch.stack(
        [torch.randn(3, 8, 8, generator=generator_for(5, "image", i)) for i in range(3)]
    )
    save_file({"noise": noise, "labels": labels}, tmp_path / "given.safetensors")
    subprocess.run(
        [
            sys.executable,
            "-c",
            STRANGER,
            tmp_path / "raw",
            tmp_path / "given.safetensors",
            tmp_path / "result.safetensors",
        ],
        check=True,
        cwd=tmp_path,
    )
    result = load_file(tmp_path / "result.safetensors")
    weights = {
        name.removeprefix("weights/"): value
        for name, value in result.items()
        if name.startswith("weights/")
    }
    assert weights.keys() == network.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    ours = sample(network, labels, schedule=SCHEDULE, num_inference_steps=5, seed=5).int()
    theirs = ((result["x_0"] + 1) * 127.5).round().clamp(0, 255).int()
    assert (ours - theirs).abs().max() <= 1
    assert len(ours.unique()) > 50  # images with something in them


def test_saving_and_loading_keeps_every_bit_and_the_configuration(tmp_path: Path):
    network = tiny()
    denoisers.save(network, tmp_path, SCHEDULE)
    loaded = denoisers.load(tmp_path)
    assert same(network, loaded)
    assert shape(loaded) == shape(network)
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "scheduler_config.json",
    }


def test_a_loaded_network_is_in_evaluation_mode_and_float32(tmp_path: Path):
    denoisers.save(tiny().half(), tmp_path, SCHEDULE)
    loaded = denoisers.load(tmp_path)
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_initial_values_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    first = tiny(seed=3)
    torch.manual_seed(2)
    second = tiny(seed=7)
    assert not same(first, second)
    assert not torch.equal(first.class_embedding.weight, second.class_embedding.weight)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.add_(1.0)
    denoisers.reinitialise(second, 3)
    assert same(first, second)


def test_initialising_leaves_the_global_generator_alone():
    network = tiny()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    denoisers.reinitialise(network, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "levels, middle", [([], False), ([0], True), ([1], True), ([0, 1, 2], True)]
)
def test_attention_stands_at_the_levels_asked_for(levels: list[int], middle: bool):
    network = tiny(block_out_channels=[8, 16, 32], attention_levels=levels)
    down = [i for i, block in enumerate(network.down_blocks) if hasattr(block, "attentions")]
    up = [2 - i for i, block in enumerate(network.up_blocks) if hasattr(block, "attentions")]
    assert down == levels and sorted(up) == levels
    assert any(attention is not None for attention in network.mid_block.attentions) == middle
    x = torch.randn(2, 3, 8, 8)
    assert (
        denoisers.predict(network, x, torch.tensor([0, 99]), torch.tensor([0, 4])).shape == x.shape
    )


@pytest.mark.parametrize(
    "image_size, channels, widths", [(8, 1, [8]), (16, 3, [8, 16, 24]), (28, 1, [64, 128, 128])]
)
def test_the_network_fits_the_images(image_size: int, channels: int, widths: list[int]):
    network = tiny(
        image_size=image_size,
        channels=channels,
        block_out_channels=widths,
        attention_levels=[len(widths) - 1],
    )
    x = torch.randn(1, channels, image_size, image_size)
    assert denoisers.predict(network, x, torch.tensor([3]), torch.tensor([1])).shape == x.shape


def test_there_is_one_row_per_class_and_a_null_row_after_them():
    network = tiny(num_classes=4)
    assert dict(network.named_parameters())[denoisers.CLASS_EMBEDDING].shape[0] == 5
    assert denoisers.null_label(network) == 4


def test_the_answer_depends_on_the_label_and_the_time():
    network, x = tiny().eval(), torch.randn(1, 3, 8, 8)
    answers = [
        denoisers.predict(network, x, torch.tensor([t]), torch.tensor([c]))
        for t, c in [(5, 0), (5, 4), (50, 0)]
    ]
    assert all((a - b).abs().max() > 1e-3 for a, b in [answers[:2], answers[1:], answers[::2]])


@pytest.mark.parametrize("width, heads", [(None, [1, 1]), (8, [2, 4])])
def test_the_width_of_a_head_is_the_one_asked_for_and_none_is_one_head(
    width: int | None, heads: list[int]
):
    network = tiny(block_out_channels=[16, 32], attention_levels=[0, 1], attention_head_dim=width)
    assert [block.attentions[0].heads for block in network.down_blocks] == heads
    assert network.mid_block.attentions[0].heads == heads[-1]


# --------------------------------------------------------------------------- weights from elsewhere

DATA = dict(image_size=8, channels=3, num_classes=4)


def test_a_folder_of_weights_is_read_under_the_name_it_has(tmp_path: Path):
    raw, ema = tiny(1), tiny(2)
    denoisers.save(raw, tmp_path / "both" / "raw", SCHEDULE)
    denoisers.save(ema, tmp_path / "both" / "ema", SCHEDULE)
    raw.save_pretrained(tmp_path / "plain")  # as diffusers writes it
    both = denoisers.load_checkpoint(tmp_path / "both", **DATA)
    assert both.keys() == {"raw", "ema"} and same(both["raw"], raw) and same(both["ema"], ema)
    for folder, label, network in (
        ("plain", "raw", raw),
        ("both/raw", "raw", raw),
        ("both/ema", "ema", ema),
    ):
        found = denoisers.load_checkpoint(tmp_path / folder, **DATA)
        assert found.keys() == {label} and same(found[label], network)


@pytest.mark.parametrize("change", [{"image_size": 16}, {"channels": 1}, {"num_classes": 5}])
def test_weights_for_other_data_are_refused(tmp_path: Path, change: dict):
    denoisers.save(tiny(), tmp_path, SCHEDULE)
    with pytest.raises(UsageError) as refused:
        denoisers.load_checkpoint(tmp_path, **{**DATA, **change})
    [line] = refused.value.problems
    wanted = [
        {**DATA, **change}[key] for key in ("image_size", "channels", "channels", "num_classes")
    ]
    wanted[-1] += 1
    assert (
        line.startswith(f"model.checkpoint={tmp_path}: ")
        and "is [8, 3, 3, 5]" in line
        and f"must be {wanted}" in line
    )
    assert "\n" not in line and line.endswith("Type model.checkpoint=null to pretrain here")


@pytest.mark.parametrize(
    "damage, said",
    [
        ("empty", "config.json"),
        ("kind", "a AutoencoderKL"),
        ("weights", "safetensors"),
        ("missing", "conv_in.bias"),
        ("unexpected", "logvar"),
        ("cut", ""),
    ],
)
def test_a_folder_that_is_not_a_network_of_ours_is_refused(tmp_path: Path, damage: str, said: str):
    folder = tmp_path / "given"
    denoisers.save(tiny(), folder, SCHEDULE)
    config, weights = folder / "config.json", folder / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    if damage == "empty":
        config.unlink()
    elif damage == "kind":
        config.write_text(config.read_text().replace("UNet2DModel", "AutoencoderKL"))
    elif damage == "weights":
        weights.unlink()
    elif damage == "missing":
        save_file(
            {name: value for name, value in tensors.items() if name != "conv_in.bias"}, weights
        )
    elif damage == "unexpected":
        save_file({**tensors, "logvar": torch.zeros(3)}, weights)
    else:
        weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UsageError) as refused:
        denoisers.load_checkpoint(folder, **DATA)
    [line] = refused.value.problems
    assert line.startswith(f"model.checkpoint={folder}: can not be read") and said in line
    assert "\n" not in line and "Type model.checkpoint=FOLDER" in line
