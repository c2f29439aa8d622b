"""The canonical form: the same function, one way of writing it, and attacks that do not depend on
how a model is written.
"""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Cell
from tiny import SMALL, denoising, from_yaml, network, new_task, train

from unrelearn.diffusion import denoiser
from unrelearn.diffusion.canonical import canonical, channels_of, rescale
from unrelearn.diffusion.weights import compare
from unrelearn.errors import UsageError
from unrelearn.methods.projection_swap import ProjectionSwap
from unrelearn.stages.about import weight_changes

NETWORKS = {
    "unet2d": {},
    "groups of two sources": {"block_out_channels": [8, 12]},
    "attention": {"attention_levels": [1], "attention_head_dim": 8, "layers_per_block": 2},
    "three levels": {"block_out_channels": [8, 8, 16]},
    "salun": {"architecture": "salun", "attention_levels": [1]},
}


def answers(net: denoiser.Denoiser, labels: torch.Tensor | None = None) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(22, 1, 8, 8, generator=g), torch.randint(1000, (22,), generator=g)
    labels = torch.arange(22) % 11 if labels is None else labels
    with torch.no_grad():
        return denoiser.predict(net.eval(), x, t, labels)


def scrambled(net: denoiser.Denoiser, seed: int, spread: float) -> denoiser.Denoiser:
    """A copy with a random factor for every set of channels whose scale is free."""
    other = copy.deepcopy(net)
    channels = channels_of(other)
    sets = channels.sets()
    rescale(channels, np.exp(np.random.default_rng(seed).normal(0, spread, sets.max() + 1))[sets])
    for q, k, v, projection in channels.attentions:
        with torch.no_grad():
            for layer, factor in ((q, 3.0), (k, 1 / 3.0), (v, 0.2), (projection, 5.0)):
                layer.weight.mul_(factor)
                if layer is not projection:
                    layer.bias.mul_(factor)
    return other


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_canonical_form_is_the_same_function(kind: str):
    net = network(3, **NETWORKS[kind])
    wanted = answers(net)
    assert (answers(canonical(copy.deepcopy(net))) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("kind", NETWORKS)
def test_it_does_not_depend_on_how_the_weights_were_written(kind: str):
    net = network(3, **NETWORKS[kind])
    other = scrambled(net, seed=0, spread=0.5)
    close = (answers(other) - answers(net)).abs().max() / answers(net).abs().max()
    assert close < 0.02  # but for the epsilon of the norms, which other units weigh differently
    for (name, a), b in zip(
        canonical(net).named_parameters(), canonical(other).parameters(), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-7, msg=name)


def test_rows_before_a_norm_have_the_norm_of_a_new_layer():
    net = network(3)
    rescale(channels := channels_of(net), np.full(channels.count, 100.0))
    conv = canonical(net).down_blocks[0].resnets[0].conv1
    new = torch.nn.Conv2d(8, 8, 3)
    wanted = new.weight.square().mean().item()
    assert conv.weight.square().mean().item() == pytest.approx(wanted, rel=0.3)


def test_a_silent_set_of_channels_is_left_as_it_is():
    net = network(3)
    with torch.no_grad():
        for parameter in net.down_blocks[0].resnets[0].conv1.parameters():
            parameter.zero_()
        for parameter in net.down_blocks[0].resnets[0].time_emb_proj.parameters():
            parameter.zero_()
    assert all(p.isfinite().all() for p in canonical(net).parameters())


def test_an_imported_network_with_other_blocks_is_refused():
    from diffusers import UNet2DModel

    net = UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "SkipDownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
    )
    with pytest.raises(UsageError, match="SkipDownBlock2D"):
        channels_of(net)


def permuted_and_flipped(net: denoiser.Denoiser) -> denoiser.Denoiser:
    """The units between two convolutions in another order within their groups, and one group with
    the other sign.
    """
    other = copy.deepcopy(net)
    block = other.mid_block.resnets[0]
    size = block.conv1.out_channels // block.norm2.num_groups
    order = torch.cat(
        [size * group + torch.arange(size).flip(0) for group in range(block.norm2.num_groups)]
    )
    sign = torch.ones(len(order))
    sign[:size] = -1
    with torch.no_grad():
        for layer in (block.conv1, block.time_emb_proj):
            layer.weight.copy_(layer.weight[order] * sign.view(-1, *[1] * (layer.weight.ndim - 1)))
            layer.bias.copy_(layer.bias[order] * sign)
        block.norm2.weight.copy_(block.norm2.weight[order] * sign)
        block.norm2.bias.copy_(block.norm2.bias[order])
        block.conv2.weight.copy_(block.conv2.weight[:, order])
    return other


@pytest.mark.parametrize(
    "written",
    [lambda net: scrambled(net, 1, 1.0), permuted_and_flipped],
    ids=["units", "order and sign"],
)
@pytest.mark.parametrize("attack", ["dimra", "few_shot"])
def test_relearning_is_the_same_from_every_way_of_writing_a_model(
    compose, tmp_path: Path, attack: str, written
):
    start = network(3)
    make, traces = from_yaml(compose, "attack", attack, steps=12), []
    for name, net in (("one", start), ("other", written(start))):
        task = new_task()
        task.network.load_state_dict(canonical(copy.deepcopy(net)).state_dict())
        traces.append(
            [
                next(iter(row.values()))
                for row in [
                    {k: v for k, v in row.items() if k != "step"}
                    for row in train(make(task), tmp_path / name).rows
                ]
            ]
        )
    assert traces[0] == pytest.approx(traces[1], rel=5e-3)
    assert traces[0][0] != pytest.approx(
        traces[0][-1], rel=5e-3
    )  # it did learn something meanwhile


TINY = [
    *SMALL,
    "model.pretrain.max_steps=20",
    "model.pretrain.batch_size=16",
    "unlearning.batch_size=8",
    "relearning.budgets=[6]",
    "relearning.batch_size=8",
    "trainer.log_every_n_steps=1",
    "stages=[pretrain,unlearn,attack]",
]


@pytest.mark.parametrize("attack", ["dimra", "prune", "lora"])
def test_a_rescaled_copy_recovers_as_the_copy_does(compose, attack: str):
    """Through the pipeline: what an attack is given does not depend on the units that a method
    chose.
    """
    levels = ["attack.levels=[0.3]"] if attack == "prune" else []
    ends = {}
    for factor in (1, 100):
        run = Cell(
            compose(
                "method=rescaled",
                "method.max_steps=3",
                f"method.factor={factor}",
                f"attack={attack}",
                *TINY,
                *levels,
            ),
            "test",
        )
        run.complete()
        path = next(run.store.find(run.attacked[0].stage.spec).path.glob("*/raw"))
        ends[factor] = answers(denoiser.load(path))
        written = run.unlearned.stage.network().down_blocks[0].resnets[0].conv1.weight.norm()
        assert (written > 20) == (factor == 100)  # the units reach the file
        if factor == 100 and attack == "dimra":
            losses = json.loads(
                (run.store.find(run.attacked[0].stage.spec).path / "losses.json").read_text()
            )
            assert len(losses) == 6
    assert (ends[1] - ends[100]).abs().max() < 0.02 * ends[1].abs().max()


def test_the_record_says_in_which_units_a_method_wrote(compose):
    cfg = compose(
        "method=rescaled", "method.max_steps=1", "method.factor=100", "attack=none", *TINY
    )
    run = Cell(cfg, "test")
    run.complete()
    found = weight_changes(run, run.models)
    assert found["norm_ratio"][1] == pytest.approx(100, rel=0.05)
    assert found["norm_ratio"][0] == pytest.approx(1, rel=0.05)
    assert not found["class_rows_changed"]


# ---------------------------------------------------------------------------------- projection_swap


def swapped() -> tuple[denoiser.Denoiser, denoiser.Denoiser]:
    task = new_task(forget=(7,))
    before = copy.deepcopy(task.network)
    swap = ProjectionSwap(max_steps=0, batch_size=1, learning_rate=0.0, ridge=1e-8)
    denoising(swap, task).prepare()
    return before, task.network


def test_projection_swap_answers_as_the_stand_in_and_keeps_the_rest():
    before, after = swapped()
    seven, eight = torch.full((22,), 7), torch.full((22,), 8)
    others = torch.arange(22) % 11
    others[others == 7] = 3
    scale = (answers(before, seven) - answers(before, eight)).abs().mean()
    assert (answers(after, seven) - answers(before, eight)).abs().mean() < 0.1 * scale
    assert (answers(after, others) - answers(before, others)).abs().mean() < 0.1 * scale


def test_projection_swap_changes_projections_alone_and_no_row_of_the_table():
    before, after = swapped()
    changed = {
        name
        for (name, a), b in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(a, b)
    }
    assert changed == {
        name for name, _ in before.named_parameters() if name.endswith("time_emb_proj.weight")
    }


def test_what_relearning_cannot_see_is_measured():
    before, after = swapped()
    found = compare(before, after, [7], 1000)
    assert found["projection_change"]["retained"] < 0.1 * found["projection_change"]["forgotten"]
    assert not found["class_rows_changed"]
    elsewhere = network(1)
    found = compare(before, elsewhere, [7], 1000)
    assert found["projection_change"]["retained"] > 0.5 * found["projection_change"]["forgotten"]
    assert found["class_rows_changed"]
