"""The Fisher information against sums of squared gradients taken one by one, how it is shared out,
kept and used as a mask.
"""

import copy
import multiprocessing
from pathlib import Path

import pytest
import torch
from formulas import abar, wanted
from runs import execute
from tiny import SCHEDULE, SMALL, denoising, digits, moved, network, new_task, train, weights
from torch import Tensor, nn

from unrelearn import fisher
from unrelearn.data import ImageSet
from unrelearn.diffusion.denoising import Denoising
from unrelearn.diffusion.noisy import NoisyBatch
from unrelearn.diffusion.ranking import fisher_information
from unrelearn.fisher import squared_gradients
from unrelearn.methods.finetune import Finetune
from unrelearn.randomness import generator_for

TINY = dict(max_steps=2, batch_size=8, learning_rate=1e-3)
KINDS = [
    {},
    {"attention_levels": [1], "attention_head_dim": 4, "dropout": 0.3},
    {"attention_levels": [1], "architecture": "salun", "dropout": 0.3},
]


def one_by_one(
    net: nn.Module, data: ImageSet, samples: range, seed: int = 0, kind: str = "epsilon"
) -> dict[str, Tensor]:
    """The sum over samples of the squared gradient, each from a backward pass of its own."""
    net = copy.deepcopy(net).eval().requires_grad_(True)
    total = {name: torch.zeros_like(p, requires_grad=False) for name, p in net.named_parameters()}
    for k in samples:
        g = generator_for(seed, "fisher", k)
        i, t = torch.randint(len(data), (), generator=g), torch.randint(1000, (1,), generator=g)
        batch = NoisyBatch(
            data.images[i][None] / 127.5 - 1,
            data.labels[i][None],
            torch.randn((1, 1, 8, 8), generator=g),
            t,
        )
        noisy = (abar(t).sqrt() * batch.x_0 + (1 - abar(t)).sqrt() * batch.noise).float()
        output = net(noisy, t, class_labels=batch.labels).sample
        gradients = torch.autograd.grad(
            ((output - wanted(batch, kind)) ** 2).mean(), list(net.parameters())
        )
        for part, gradient in zip(total.values(), gradients, strict=True):
            part += gradient**2
    return total


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-3) -> None:
    assert found.keys() == expected.keys()
    for (
        name,
        value,
    ) in expected.items():  # weights before a norm can have gradients of pure rounding
        torch.testing.assert_close(
            found[name].float(), value.float(), rtol=rtol, atol=1e-4 * float(value.max()) + 1e-12
        )


def test_two_layers_by_brute_force():
    torch.manual_seed(3)
    net, x, y = (
        nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)),
        torch.randn(7, 3),
        torch.randn(7, 2),
    )

    def loss(net, x: Tensor, y: Tensor) -> Tensor:
        return (net(x) - y).square().mean()

    found = squared_gradients(net, loss, x, y)
    expected = {
        name: torch.zeros_like(p, requires_grad=False) for name, p in net.named_parameters()
    }
    for k in range(7):
        net.zero_grad()
        loss(net, x[k], y[k]).backward()
        for name, p in net.named_parameters():
            expected[name] += p.grad**2
    assert_same(found, expected, rtol=1e-5)
    net.zero_grad()
    loss(net, x, y).backward()  # the square of a batch's gradient is another thing
    assert 7 * (net[0].weight.grad ** 2).sum() < 0.9 * found["0.weight"].sum()
    hand = (
        (2 / 2 * (net(x) - y)).square().sum(0)
    )  # d l_k / d bias = (answer - y), as the mean is over two elements
    torch.testing.assert_close(found["2.bias"].float(), hand)


@pytest.mark.parametrize("changes", KINDS, ids=["plain", "attention", "salun"])
def test_the_unets_by_brute_force(changes: dict):
    net, data = network(seed=4, **changes).train(), digits()
    found = fisher_information(net, data, 10, SCHEDULE, seed=2)
    assert net.training and all(p.grad is None for p in net.parameters())
    assert_same(
        found,
        {name: total / 10 for name, total in one_by_one(net, data, range(10), seed=2).items()},
    )
    assert all(value.dtype == torch.float32 for value in found.values())


@pytest.mark.parametrize("kind", ["sample", "v_prediction"])
def test_it_is_that_of_whatever_the_network_predicts(kind: str):
    net, data = network(seed=4), digits()
    found = fisher_information(net, data, 4, SCHEDULE | {"prediction_type": kind}, seed=0)
    assert_same(
        found,
        {name: total / 4 for name, total in one_by_one(net, data, range(4), kind=kind).items()},
    )


def test_a_sample_depends_on_the_seed_and_its_number_alone(monkeypatch: pytest.MonkeyPatch):
    net, data = network(seed=4), digits()
    six, ten = (fisher_information(net, data, n, SCHEDULE, seed=0) for n in (6, 10))
    assert_same(
        {name: 10 * ten[name] - 6 * six[name] for name in six}, one_by_one(net, data, range(6, 10))
    )
    monkeypatch.setattr(
        fisher, "GRADIENT_VALUES", 3 * sum(p.numel() for p in net.parameters())
    )  # three at once
    assert_same(fisher_information(net, data, 10, SCHEDULE, seed=0), ten)
    assert moved(fisher_information(net, data, 6, SCHEDULE, seed=1), six)


def share(folder: Path, rank: int, processes: int) -> None:
    """One of several processes; with 2 samples the third has none."""
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/meet", rank=rank, world_size=processes
    )
    net, data = network(seed=4), digits()
    torch.save(
        {n: fisher_information(net, data, n, SCHEDULE, seed=0) for n in (2, 7)},
        folder / f"{rank}.pt",
    )


def test_the_processes_share_the_samples_and_all_get_the_whole(tmp_path: Path):
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=share, args=(tmp_path, rank, 3)) for rank in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(900)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    for n in (2, 7):
        assert_same(parts[0][n], fisher_information(network(seed=4), digits(), n, SCHEDULE, seed=0))
        assert not moved(parts[0][n], parts[1][n]) and not moved(parts[0][n], parts[2][n])


# ----------------------------------------------------------------------------------------- the mask


def finetune(**changes) -> Denoising:
    return denoising(Finetune(**{**TINY, "fisher_samples": 20, **changes}), new_task())


def test_the_mask_is_where_the_forget_set_counts_for_more():
    module = finetune(fisher_ratio=1.5)
    module.prepare()
    forget, retain = (
        one_by_one(module.network, data, range(20))
        for data in (module.task.forget, module.task.retain)
    )
    trainable = [name for name, p in module.network.named_parameters() if p.requires_grad]
    assert module.mask.keys() == set(trainable)
    agree = torch.cat(
        [(module.mask[n] == (forget[n] > 1.5 * retain[n])).flatten() for n in trainable]
    )
    share = torch.cat([module.mask[n].flatten() for n in trainable]).float().mean()
    assert agree.float().mean() > 0.999 and 0.05 < share < 0.6


def test_a_weight_that_matters_for_neither_is_not_in_the_mask():
    module = finetune(fisher_ratio=1.0)
    with torch.no_grad():
        module.network.conv_out.weight.zero_()  # nothing before it has a gradient
    module.prepare()
    assert not module.mask["conv_in.weight"].any()
    assert module.mask["conv_out.weight"].any()


def test_both_masks_together_leave_the_weights_in_both(tmp_path: Path):
    masks = []
    for arguments in (
        {"saliency_fraction": 0.3},
        {"fisher_ratio": 1.0},
        {"saliency_fraction": 0.3, "fisher_ratio": 1.0},
    ):
        module = finetune(**arguments)
        module.prepare()
        masks.append(module.mask)
    assert not moved({name: masks[0][name] & masks[1][name] for name in masks[0]}, masks[2])
    module = finetune(saliency_fraction=0.3, fisher_ratio=1.0)
    before = weights(module)
    train(module, tmp_path)
    differs = {name: before[name] != value for name, value in weights(module).items()}
    assert not any(differs[name][~mask].any() for name, mask in masks[2].items())
    assert (
        sum(int(differs[name].sum()) for name in masks[2])
        > 0.9 * sum(int(mask.sum()) for mask in masks[2].values())
        > 0
    )


# ------------------------------------------------------------------------------------ kept as it is


def test_it_is_computed_once_for_a_model_and_read_by_every_method_that_wants_it(
    compose, tmp_path: Path
):
    sizes = [
        *SMALL,
        "model.pretrain.max_steps=4",
        "unlearning.max_steps=2",
        "unlearning.batch_size=8",
        "stages=[pretrain,unlearn]",
        "attack=none",
    ]

    def made(method: str, *overrides: str, samples: int = 12) -> dict[Path, int]:
        """What is kept after a run: file -> when it was written."""
        execute(
            compose(f"method={method}", *sizes, *overrides, f"++method.fisher_samples={samples}"),
            "",
        )
        return {
            path: path.stat().st_mtime_ns
            for path in (tmp_path / "outputs/artifacts/cached").rglob("tensors.safetensors")
        }

    kept = made("sfron")
    assert len(kept) == 2  # of the forget set and of the retain set
    assert made("finetune", "+method.fisher_ratio=2.0") == kept
    assert len(made("sfron", samples=13)) == 4 and len(made("sfron", "forget=3")) == 6
    kept = made("selective_amnesia")
    assert (
        len(kept) == 8
    )  # images that the model has generated, and its Fisher information for them
    assert made("selective_amnesia", "forget=3") == kept  # which serve for every class
