"""Scissorhands: the weights that matter most are drawn anew."""

import math

import pytest
import torch
from formulas import abar, gradients, mean_squared_error
from makers import scissorhands
from tiny import moved, network, new_task, weights
from torch import Tensor

from unrelearn.diffusion.denoiser import CLASS_EMBEDDING, reinitialise
from unrelearn.diffusion.denoising import Denoising
from unrelearn.randomness import generator_for


def snip_by_hand(module: Denoising, batches: int) -> Tensor:
    """|w| times the sum over batches of |gradient| of the guided loss."""
    net, forget, n = module.network.eval(), module.task.forget, module.method.batch_size
    ranked = [p for name, p in net.named_parameters() if name != CLASS_EMBEDDING]
    total = torch.zeros(sum(p.numel() for p in ranked))
    for number in range(batches):
        x_0, labels = (
            forget.images[number * n : (number + 1) * n] / 127.5 - 1,
            forget.labels[number * n : (number + 1) * n],
        )
        g = generator_for(module.task.seed, "saliency", number)
        t = torch.randint(1000, (len(labels),), generator=g)
        noise = torch.randn(x_0.shape, generator=g)
        noisy = (abar(t).sqrt() * x_0 + (1 - abar(t)).sqrt() * noise).float()
        guided = (
            3 * net(noisy, t, class_labels=labels).sample
            - 2 * net(noisy, t, class_labels=labels * 0 + 10).sample
        )
        loss = (guided - noise).square().mean()
        total += torch.cat([g.abs().flatten() for g in torch.autograd.grad(loss, ranked)])
    return total * torch.cat([p.detach().abs().flatten() for p in ranked])


@pytest.mark.parametrize("batches", [1, 2])
def test_the_weights_that_matter_most_in_the_decoder_are_drawn_anew(batches: int):
    module = scissorhands(batch_size=5, trim_batches=batches)
    before, names = (
        weights(module),
        [n for n, _ in module.network.named_parameters() if n != CLASS_EMBEDDING],
    )
    score = snip_by_hand(scissorhands(batch_size=5), batches)
    count = round(1e-3 * math.sqrt(859_520_964 / len(score)) * len(score))
    module.prepare()
    after = weights(module)
    assert module.network.training and 0.1 < count / len(score) < 0.2
    top = (score >= score.sort(descending=True).values[count - 1]).split(
        [before[n].numel() for n in names]
    )
    changed, expected = [], []
    for name, chosen in zip(names, top, strict=True):
        may = name.startswith("up_blocks") and "norm" not in name
        changed.append((before[name] != after[name]).flatten())
        expected.append(chosen if may else torch.zeros_like(chosen))
    changed, expected = torch.cat(changed), torch.cat(expected)
    assert (changed == expected).float().mean() > 0.999 and expected.sum() > 0.02 * len(score)
    fresh = network()
    reinitialise(fresh, generator_for(0, "scissorhands").initial_seed())
    for name, value in fresh.state_dict().items():
        new = before[name] != after[name]
        assert torch.equal(after[name][new], value[new])
    assert not torch.equal(after[CLASS_EMBEDDING], fresh.class_embedding.weight)


def test_the_new_values_differ_from_run_to_run_and_from_those_of_the_pretraining():
    states = []
    for seed in (0, 1):
        module = scissorhands(new_task(seed=seed))
        module.network.load_state_dict(network(seed).state_dict())  # as if nothing had been learned
        before = weights(module)
        module.prepare()
        states.append(weights(module))
        assert moved(
            before, states[-1]
        )  # drawn with the seed of the run they would all be the same again
    assert moved(*states)


def test_scissorhands_descends_on_the_retain_set_and_climbs_a_little_on_the_forget_set():
    module = scissorhands(forget_weight=0.3)
    module.prepare()
    losses = module.method.losses(module)
    forget, retain = (
        module.draw("forget", module.task.forget, label_dropout=0.0),
        module.draw("retain", module.task.retain),
    )
    assert losses["forget"].item() == pytest.approx(
        -0.3 * mean_squared_error(module, forget).item(), rel=1e-5
    )
    assert losses["retain"].item() == pytest.approx(
        mean_squared_error(module, retain).item(), rel=1e-5
    )
    expected = mean_squared_error(module, retain) - 0.3 * mean_squared_error(module, forget)
    torch.testing.assert_close(
        gradients(module, sum(losses.values())), gradients(module, expected), rtol=1e-3, atol=1e-5
    )


def test_the_share_never_exceeds_all():
    module = scissorhands(trim_share=1.0)
    before = weights(module)
    module.prepare()
    assert moved(before, weights(module)) == {
        name for name in before if name.startswith("up_blocks") and "norm" not in name
    }
