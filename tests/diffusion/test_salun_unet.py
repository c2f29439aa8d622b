"""The SalUn line's network against a second, plain computation of it, and the way of its
checkpoints in and out.
"""

import math
import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from tiny import SCHEDULE
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unrelearn.diffusion import denoiser as denoisers
from unrelearn.diffusion.salun_unet import (
    Attention,
    Downsample,
    SalunUNet,
    load_lineage,
    to_lineage,
)
from unrelearn.diffusion.sampling import sample
from unrelearn.errors import UsageError

CONF = Path(__file__).parents[2] / "conf" / "model"
CLASSES, WIDTHS, GROUPS = 4, [8, 16, 24], 4  # three widths, so that no two levels can be confused
SHAPE = dict(
    image_size=8,
    channels=3,
    num_classes=CLASSES,
    block_out_channels=WIDTHS,
    layers_per_block=2,
    norm_num_groups=GROUPS,
    attention_levels=[1],
    dropout=0.1,
    architecture="salun",
)


def tiny(seed: int = 0, **changes) -> SalunUNet:
    """Every weight random, the norms' too, so that none can be left out unnoticed."""
    network = denoisers.build(**{**SHAPE, **changes}).eval()
    denoisers.reinitialise(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def inputs(batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([0, 400, 999])[:batch], torch.tensor([0, 2, 3])[:batch]


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


# ----------------------------------------------- a plain computation from the published names alone


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    half = width // 2
    angle = t.double()[:, None] * torch.tensor(
        [math.exp(-math.log(10000) / (half - 1) * i) for i in range(half)]
    )
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


class Plain:
    """The network written with F.* from the lineage's state dict: `w` the weights, nothing else
    known but the groups.
    """

    def __init__(self, w: dict[str, Tensor]):
        self.w = w

    def conv(self, name: str, x: Tensor, **options) -> Tensor:
        weight = self.w[f"{name}.weight"]
        return F.conv2d(
            x, weight, self.w[f"{name}.bias"], **{"padding": weight.shape[-1] // 2, **options}
        )

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        grouped = x.reshape(len(x), GROUPS, -1)
        variance, mean = torch.var_mean(grouped, dim=2, correction=0, keepdim=True)
        plain = ((grouped - mean) / (variance + 1e-6).sqrt()).reshape(x.shape)
        return (
            plain * self.w[f"{name}.weight"][:, None, None] + self.w[f"{name}.bias"][:, None, None]
        )

    @staticmethod
    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def embedding(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.dense.1", self.swish(self.linear(f"{name}.dense.0", x)))

    def classes(self, labels: list[int | None]) -> Tensor:
        rows = [
            self.w["null_classes_emb"] if c is None else self.w["classes_emb.weight"][c]
            for c in labels
        ]
        return self.embedding("cemb", torch.stack(rows))

    def block(self, name: str, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        h = self.conv(f"{name}.conv1", self.swish(self.norm(f"{name}.norm1", x)))
        h = (
            h
            + self.linear(
                f"{name}.temb_cemb_proj", self.swish(torch.cat([time, condition], dim=1))
            )[..., None, None]
        )
        h = self.conv(f"{name}.conv2", self.swish(self.norm(f"{name}.norm2", h)))
        return h + (
            self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.w else x
        )

    def attention(self, name: str, x: Tensor) -> Tensor:
        if f"{name}.q.weight" not in self.w:
            return x
        q, k, v = (
            self.conv(f"{name}.{part}", self.norm(f"{name}.norm", x)).flatten(2) for part in "qkv"
        )
        share = torch.softmax(torch.einsum("bci,bcj->bij", q, k) / math.sqrt(x.shape[1]), dim=2)
        return x + self.conv(
            f"{name}.proj_out", torch.einsum("bij,bcj->bci", share, v).reshape(x.shape)
        )

    def down(self, name: str, x: Tensor) -> Tensor:
        padded = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
        padded[:, :, :-1, :-1] = x
        return self.conv(name, padded, stride=2, padding=0)

    def __call__(self, x: Tensor, t: Tensor, labels: list[int | None]) -> Tensor:
        time = self.embedding("temb", timestep_embedding(t, WIDTHS[0]))
        condition = self.classes(labels)
        bottom = len(WIDTHS) - 1
        stack = [self.conv("conv_in", x)]
        for i in range(bottom + 1):
            for j in range(2):
                h = self.block(f"down.{i}.block.{j}", stack[-1], time, condition)
                stack.append(self.attention(f"down.{i}.attn.{j}", h))
            if i < bottom:
                stack.append(self.down(f"down.{i}.downsample.conv", stack[-1]))
        h = self.block("mid.block_1", stack[-1], time, condition)
        h = self.block("mid.block_2", self.attention("mid.attn_1", h), time, condition)
        for i in range(bottom, -1, -1):
            for j in range(3):
                h = self.block(
                    f"up.{i}.block.{j}", torch.cat([h, stack.pop()], dim=1), time, condition
                )
                h = self.attention(f"up.{i}.attn.{j}", h)
            if i > 0:
                h = self.conv(
                    f"up.{i}.upsample.conv",
                    h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3),
                )
        assert not stack
        return self.conv("conv_out", self.swish(self.norm("norm_out", h)))


def test_the_network_is_its_plain_computation():
    network = tiny()
    x, t, labels = inputs()
    with torch.no_grad():
        wanted = Plain(to_lineage(network))(x, t, labels.tolist())
        torch.testing.assert_close(network(x, t, labels).sample, wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std() > 0.05


def test_the_null_label_is_the_null_vector():
    network = tiny()
    x, t, _ = inputs()
    null = torch.full((3,), denoisers.null_label(network))
    with torch.no_grad():
        wanted = Plain(to_lineage(network))(x, t, [None] * 3)
        before = denoisers.predict(network, x, t, null)
        torch.testing.assert_close(before, wanted, rtol=1e-4, atol=1e-4)
        network.class_embedding.weight[:CLASSES] = 7.0
        assert torch.equal(denoisers.predict(network, x, t, null), before)
        network.class_embedding.weight[CLASSES] = 7.0
        assert not torch.equal(denoisers.predict(network, x, t, null), before)


@pytest.mark.parametrize("t", [0, 999])
def test_the_time_embedding_is_the_formula(t: int):
    network, seen = tiny(block_out_channels=[128], attention_levels=[]), []
    network.temb.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    network(torch.zeros(1, 3, 8, 8), torch.tensor([t]), torch.tensor([0]))
    torch.testing.assert_close(
        seen[0], timestep_embedding(torch.tensor([t]), 128), rtol=0, atol=2e-4
    )
    if t == 0:
        assert torch.equal(seen[0], torch.cat([torch.zeros(1, 64), torch.ones(1, 64)], dim=1))
    else:
        assert seen[0][0, 0].item() == pytest.approx(math.sin(999), abs=1e-5)
        assert seen[0][0, 63].item() == pytest.approx(math.sin(999e-4), abs=1e-5)
        assert seen[0][0, 64].item() == pytest.approx(math.cos(999), abs=1e-5)


def test_one_residual_block_and_the_conditioning_path_by_hand():
    network = tiny()
    plain = Plain(to_lineage(network))
    torch.manual_seed(0)
    with torch.no_grad():
        condition = network.cemb(network.class_embedding(torch.tensor([2])))
        torch.testing.assert_close(condition, plain.classes([2]))
        x, time = torch.randn(1, 8, 4, 4), torch.randn(1, 32)
        got = network.down[1]["block"][0](x, F.silu(torch.cat([time, condition], dim=1)))
        torch.testing.assert_close(
            got, plain.block("down.1.block.0", x, time, condition), rtol=1e-4, atol=1e-5
        )
    assert got.shape == (1, 16, 4, 4)


def test_attention_is_the_softmax_formula():
    torch.manual_seed(0)
    attention, x = Attention(8, 4), torch.randn(2, 8, 4, 4)
    plain = Plain({f"a.{name}": value for name, value in attention.state_dict().items()})
    with torch.no_grad():
        torch.testing.assert_close(attention(x), plain.attention("a", x))
        # keys that see nothing: every pixel takes the mean of the values
        attention.k.weight.zero_()
        mean = attention.v(attention.norm(x)).mean(dim=(2, 3), keepdim=True).expand_as(x)
        torch.testing.assert_close(attention(x), x + attention.proj_out(mean))


def test_downsampling_pads_below_and_to_the_right():
    down = Downsample(1)
    with torch.no_grad():
        down.conv.weight.fill_(1.0)
        down.conv.bias.zero_()
        assert down(torch.ones(1, 1, 4, 4)).tolist() == [[[[9.0, 6.0], [6.0, 4.0]]]]


# ----------------------------------------------------------------------------------- size and names


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the 38.6 M network with 10 classes, listed from its description."""
    shapes: dict[str, tuple[int, ...]] = {
        "classes_emb.weight": (10, 128),
        "null_classes_emb": (128,),
    }

    def add(name: str, *weight: int) -> None:
        shapes.update({f"{name}.weight": weight, f"{name}.bias": weight[:1]})

    def block(name: str, width: int, out: int) -> None:
        add(f"{name}.norm1", width)
        add(f"{name}.conv1", out, width, 3, 3)
        add(f"{name}.temb_cemb_proj", out, 1024)
        add(f"{name}.norm2", out)
        add(f"{name}.conv2", out, out, 3, 3)
        if width != out:
            add(f"{name}.nin_shortcut", out, width, 1, 1)

    def attention(name: str) -> None:
        add(f"{name}.norm", 256)
        for part in ("q", "k", "v", "proj_out"):
            add(f"{name}.{part}", 256, 256, 1, 1)

    for path in ("temb", "cemb"):
        add(f"{path}.dense.0", 512, 128)
        add(f"{path}.dense.1", 512, 512)
    add("conv_in", 128, 3, 3, 3)
    for i, widths in enumerate([(128, 128), (128, 256), (256, 256), (256, 256)]):
        for j, width in enumerate(widths):
            block(f"down.{i}.block.{j}", width, 128 if i == 0 else 256)
    for i, widths in enumerate(
        [(384, 256, 256), (512, 512, 384), (512, 512, 512), (512, 512, 512)]
    ):
        for j, width in enumerate(widths):
            block(f"up.{i}.block.{j}", width, 128 if i == 0 else 256)
    for name in (
        "down.1.attn.0",
        "down.1.attn.1",
        "mid.attn_1",
        "up.1.attn.0",
        "up.1.attn.1",
        "up.1.attn.2",
    ):
        attention(name)
    block("mid.block_1", 256, 256)
    block("mid.block_2", 256, 256)
    for i, width in enumerate([128, 256, 256]):
        add(f"down.{i}.downsample.conv", width, width, 3, 3)
        add(f"up.{i + 1}.upsample.conv", 256, 256, 3, 3)
    add("norm_out", 128)
    add("conv_out", 3, 128, 3, 3)
    return shapes


def test_the_published_network_has_its_names_its_shapes_and_38632323_parameters():
    with torch.device("meta"):
        network = SalunUNet()
    state = to_lineage(network)
    assert {name: tuple(value.shape) for name, value in state.items()} == published_shapes()
    assert sum(p.numel() for p in network.parameters()) == 38_632_323
    conditioning = [
        p for name, p in network.named_parameters() if name.startswith(("class_embedding", "cemb"))
    ]
    assert sum(p.numel() for p in conditioning) == 330_112
    norms = [m for m in network.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert {(m.num_groups, m.eps) for m in norms} == {(32, 1e-6)} and len(norms) == 2 * (
        8 + 12 + 2
    ) + 6 + 1
    assert [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)] == [0.1] * (
        8 + 12 + 2
    )


@pytest.mark.parametrize(
    "name, image_size, classes, parameters, gflop",
    [
        ("salun_unet", 32, 10, "38,632,323", "12.45"),
        ("ddpm_cifar10", 32, 10, "35,751,939", "12.44"),
        ("ddpm_cifar10_small", 32, 10, "8,954,883", "3.20"),
        ("ddpm_celeba64", 64, 4, "35,748,867", "46.74"),
    ],
)
def test_a_yaml_states_the_size_and_the_cost_of_its_network(
    name: str, image_size: int, classes: int, parameters: str, gflop: str
):
    unet = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml").unet)
    with torch.device("meta"):
        network = denoisers.build(image_size=image_size, channels=3, num_classes=classes, **unet)
        given = (
            torch.zeros(1, 3, image_size, image_size),
            torch.zeros(1),
            torch.zeros(1, dtype=torch.long),
        )
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        denoisers.predict(network, *given)
    assert f"{sum(p.numel() for p in network.parameters()):,}" == parameters
    assert f"{counter.get_total_flops() / 1e9:.2f}" == gflop
    comment = (CONF / f"{name}.yaml").read_text().split("name:")[0]
    assert f"{parameters} parameters" in comment and f"{gflop} GFLOP" in comment


# ----------------------------------------------------------------------------- one of our denoisers


def test_it_is_built_saved_and_loaded_like_the_other_network(tmp_path: Path):
    network = tiny()
    denoisers.save(network, tmp_path, SCHEDULE)
    assert {p.name for p in tmp_path.iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "scheduler_config.json",
    }
    loaded = denoisers.load(tmp_path)
    assert type(loaded) is SalunUNet and not loaded.training
    assert same(loaded.state_dict(), network.state_dict())
    assert loaded.config.attention_levels in ([1], (1,)) and loaded.config.dropout == 0.1
    x, t, labels = inputs()
    with torch.no_grad():
        assert torch.equal(loaded(x, t, labels).sample, network(x, t, labels).sample)


def test_reinitialising_is_a_function_of_the_seed():
    first, second = tiny(1), tiny(2)
    denoisers.reinitialise(first, 3)
    denoisers.reinitialise(second, 3)
    assert same(first.state_dict(), second.state_dict())
    denoisers.reinitialise(second, 4)
    assert not torch.equal(first.conv_in.weight, second.conv_in.weight)


def test_several_heads_are_refused():
    with pytest.raises(UsageError) as refused:
        denoisers.build(**SHAPE, attention_head_dim=16)
    [line] = refused.value.problems
    assert "model.unet.attention_head_dim=16" in line and line.endswith(
        "Type model.unet.attention_head_dim=null"
    )


def test_it_is_sampled_from():
    images = sample(
        tiny(),
        torch.tensor([0, CLASSES]),
        schedule=SCHEDULE,
        num_inference_steps=3,
        guidance_scale=2.0,
    )
    assert (
        images.shape == (2, 3, 8, 8) and images.dtype == torch.uint8 and len(images.unique()) > 20
    )


def test_a_time_for_all_is_that_time_for_each():
    network = tiny()
    x, _, labels = inputs()
    with torch.no_grad():
        each = network(x, torch.full((3,), 5), labels, return_dict=False)[0]
        assert torch.equal(network(x, torch.tensor(5), labels).sample, each)
        assert torch.equal(network(x, 5, labels).sample, each)


def test_a_gradient_reaches_only_the_rows_that_were_used():
    network = tiny()
    x, t, _ = inputs()
    network(x, t, torch.tensor([2, 2, CLASSES])).sample.square().mean().backward()
    reached = network.class_embedding.weight.grad.abs().sum(dim=1) > 0
    assert reached.tolist() == [False, False, True, False, True]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())


def test_dropout_is_for_training():
    network = tiny(dropout=0.5)
    x, t, labels = inputs()
    with torch.no_grad():
        assert torch.equal(network(x, t, labels).sample, network(x, t, labels).sample)
        network.train()
        assert not torch.equal(network(x, t, labels).sample, network(x, t, labels).sample)


def test_channels_last_autocast_and_half_weights_answer_the_same():
    network = tiny()
    x, t, labels = inputs()
    with torch.no_grad():
        wanted = network(x, t, labels).sample
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(x, t, labels).sample
        network.to(memory_format=torch.channels_last)
        last = network(x.to(memory_format=torch.channels_last), t, labels).sample
        short = network.bfloat16()(x.bfloat16(), t, labels).sample
    torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-4)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert mixed.dtype == short.dtype == torch.bfloat16
    for rough in (mixed, short):
        assert (rough.float() - wanted).abs().max() < 0.1 * wanted.abs().max()


def test_it_compiles_as_one_graph():
    network = tiny(block_out_channels=[8, 8], layers_per_block=1)
    x, t, labels = inputs(batch=2)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, t, labels).sample, network(x, t, labels).sample)


# -------------------------------------------------------------------------------------- checkpoints


def checkpoint(
    path: Path, form: str, prefix: str, ema: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Write a file as that code does, from two random networks; what was in them."""
    raw, average = to_lineage(tiny(1)), to_lineage(tiny(2))
    trained = torch.optim.Adam([torch.nn.Parameter(value.clone()) for value in raw.values()])
    for p in trained.param_groups[0]["params"]:
        p.grad = torch.ones_like(p)
    trained.step()
    named = {f"{prefix}{name}": value for name, value in raw.items()}
    counts = {"salun": [799999], "ddim": [2047, 799999]}.get(form)
    content = (
        named
        if form == "bare"
        else (
            {"state_dict": named}
            if form == "state_dict"
            else [named, trained.state_dict(), *counts, *([average] if ema else [])]
        )
    )  # that code's average has no prefix
    torch.save(content, path)
    return raw, average


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(
    "form, ema",
    [
        ("salun", True),
        ("salun", False),
        ("ddim", True),
        ("ddim", False),
        ("bare", False),
        ("state_dict", False),
    ],
)
def test_weights_go_round_to_the_bit(tmp_path: Path, form: str, ema: bool, prefix: str):
    raw, average = checkpoint(tmp_path / "ckpt.pth", form, prefix, ema)
    network = denoisers.build(**SHAPE)
    found = load_lineage(tmp_path / "ckpt.pth", network)
    assert found.keys() == {"raw"} | ({"ema"} if ema else set()) | (
        {"step"} if form in ("salun", "ddim") else set()
    )
    assert found.get("step", 799999) == 799999
    network.load_state_dict(found["raw"], strict=True)
    assert same(to_lineage(network), raw)
    assert same(network.state_dict(), tiny(1).state_dict())
    if ema:
        network.load_state_dict(found["ema"], strict=True)
        assert same(to_lineage(network), average)


def test_an_average_with_the_prefix_and_a_file_of_the_old_format_are_read(tmp_path: Path):
    state = {f"module.{name}": value for name, value in to_lineage(tiny()).items()}
    torch.save([state, {}, 4, state], tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    found = load_lineage(tmp_path / "old.pth", tiny(3))
    assert (
        same(found["raw"], tiny().state_dict())
        and same(found["ema"], tiny().state_dict())
        and found["step"] == 4
    )


def test_without_a_network_the_published_one_is_expected_with_the_file_s_number_of_classes(
    tmp_path: Path,
):
    published = {name: torch.zeros(1).expand(shape) for name, shape in published_shapes().items()}
    torch.save({**published, "classes_emb.weight": torch.ones(100, 128)}, tmp_path / "hundred.pth")
    table = load_lineage(tmp_path / "hundred.pth")["raw"]["class_embedding.weight"]
    assert table.shape == (101, 128) and table[:100].eq(1).all() and table[100].eq(0).all()


def test_a_file_of_that_code_gives_both_networks(tmp_path: Path):
    raw = {
        f"module.{name}": torch.full((1,), 2.0).expand(shape)
        for name, shape in published_shapes().items()
    }
    average = {
        name: torch.full((1,), 3.0).expand(shape) for name, shape in published_shapes().items()
    }
    torch.save([raw, {}, 799999, average], tmp_path / "ckpt.pth")
    networks = denoisers.load_checkpoint(
        tmp_path / "ckpt.pth", image_size=32, channels=3, num_classes=10
    )
    assert networks.keys() == {"raw", "ema"}
    for label, value in (("raw", 2.0), ("ema", 3.0)):
        assert not networks[label].training and networks[label].config.sample_size == 32
        assert all(
            p.device.type == "cpu" and p.dtype == torch.float32 and p[(0,) * p.dim()] == value
            for p in networks[label].parameters()
        )
    with pytest.raises(UsageError, match=r"classes_emb.weight is \(10, 128\) and not \(100, 128\)"):
        denoisers.load_checkpoint(tmp_path / "ckpt.pth", image_size=32, channels=3, num_classes=100)


def complaint(path: Path) -> str:
    with pytest.raises(UsageError) as refused:
        load_lineage(path, tiny())
    [line] = refused.value.problems
    assert (
        "\n" not in line
        and line.startswith(f"model.checkpoint={path}: ")
        and "Type model.checkpoint=FILE" in line
    )
    return line


def changed(change: str) -> dict[str, Tensor]:
    state = to_lineage(tiny())
    if change == "missing":
        del state["null_classes_emb"]
    elif change == "unexpected":
        state["logvar"] = torch.zeros(1000)
    elif change == "classes":
        state["classes_emb.weight"] = torch.zeros(7, 8)
    elif change == "all":
        state = {f"other.{name}": value for name, value in state.items()}
    return state


@pytest.mark.parametrize(
    "change, said",
    [
        ("missing", "null_classes_emb is missing"),
        ("unexpected", "logvar is unexpected"),
        ("classes", "classes_emb.weight is (7, 8) and not (4, 8)"),
        ("all", "cemb.dense.0.bias is missing"),
    ],
)
@pytest.mark.parametrize("label", ["raw", "ema"])
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change: str, said: str, label: str):
    good, bad = to_lineage(tiny()), changed(change)
    torch.save(
        [bad if label == "raw" else good, {}, 1, bad if label == "ema" else good],
        tmp_path / "ckpt.pth",
    )
    line = complaint(tmp_path / "ckpt.pth")
    assert said in line and f"the {label} weights do not fit" in line
    assert ("more" in line) == (change == "all")


class Foreign:
    """What runs when it is unpickled."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_pickle_with_foreign_objects_is_refused_and_not_run(tmp_path: Path):
    torch.save([to_lineage(tiny()), Foreign(tmp_path / "trace"), 1], tmp_path / "ckpt.pth")
    line = complaint(tmp_path / "ckpt.pth")
    assert f"holds {os.mkdir.__module__}.mkdir" in line and "not opened" in line
    assert not (tmp_path / "trace").exists()


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path):
    assert "No such file" in complaint(tmp_path / "none.pth")
    assert "Is a directory" in complaint(tmp_path)
    (tmp_path / "text.pth").write_text("not a checkpoint")
    assert "is not a file written by torch.save" in complaint(tmp_path / "text.pth")
    (tmp_path / "empty.pth").touch()
    assert "is not a file written by torch.save" in complaint(tmp_path / "empty.pth")
    whole = tmp_path / "ckpt.pth"
    checkpoint(whole, "salun", "", True)
    (tmp_path / "half.pth").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert "is damaged" in complaint(tmp_path / "half.pth")
    for content in (5, [], [3, 4], {"weights": 5}, {"state_dict": 5}, {}):
        torch.save(content, tmp_path / "other.pth")
        assert "no state dict of tensors where the raw weights should be" in complaint(
            tmp_path / "other.pth"
        )
