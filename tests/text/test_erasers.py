"""Methods that build on ESD for words: the adversary inside two of them, what is trained against
it, adapters, and that what is written is a plain denoiser.
"""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny import moved, train
from tiny_text import network, new_task, prompting
from torch import Tensor
from torch.nn import functional as F

from unrelearn.diffusion import denoiser
from unrelearn.diffusion.adversary import strongest
from unrelearn.diffusion.attention import looks
from unrelearn.diffusion.prompts import PromptUNet
from unrelearn.method import Method
from unrelearn.methods.adv_unlearn import AdvUnlearn, before
from unrelearn.methods.esd import ESD
from unrelearn.methods.esd_attribute import AttributeESD
from unrelearn.methods.receler import Eraser, Receler, looked_at, mean_outside, written
from unrelearn.methods.spm import SPM

STEPS = dict(max_steps=2, batch_size=4, learning_rate=1e-3)
OF_ESD = dict(negative_guidance=1.0, start_guidance=1.0, num_inference_steps=2)
ATTACK = dict(attack_steps=3, attack_rate=0.1)
OF_RECELER = dict(rank=4, local_weight=0.1, mask_threshold=0.1, attack_states=16, attack_decay=0.1)


def receler(**changes) -> Receler:
    return Receler(**{**STEPS, **OF_ESD, **ATTACK, **OF_RECELER, **changes})


def adv_unlearn(**changes) -> AdvUnlearn:
    own = dict(retain_weight=0.3, warmup_share=0.0, attack_states=1)
    return AdvUnlearn(**{**STEPS, **OF_ESD, **ATTACK, **own, **changes})


def spm(**changes) -> SPM:
    return SPM(**{**STEPS, **OF_ESD, "rank": 1, "anchor_weight": 1000.0, **changes})


def spoken(seed: int = 0) -> PromptUNet:
    """A network to which its caption matters, which it hardly does to random weights."""
    net = network(seed)
    with torch.no_grad():
        for name, layer in net.named_modules():
            if name.endswith(".attn2"):
                layer.to_out[0].weight.mul_(20)
                layer.to_q.weight.mul_(10)
    return net


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


# the adversary


def test_the_adversary_comes_nearer_and_each_image_has_its_own():
    module = prompting(adv_unlearn(), new_task(network=spoken()))
    x, t, states = random(4, 3, 16, 16), torch.tensor([3, 300, 600, 900]), random(4, 12, 16)
    shown = module.predict(x, t, torch.tensor(module.task.forget_classes[:4])).detach()

    def after(steps: int, kept: slice = slice(None)) -> Tensor:
        def answer(vectors: Tensor) -> Tensor:
            return module.read(x[kept], t[kept], before(states[kept], vectors))

        optimizer = partial(torch.optim.Adam, lr=0.1)
        start, wanted = torch.zeros(4, 2, 16)[kept], shown[kept]
        given = dict(steps=steps, optimizer=optimizer)
        return strongest(module, answer, wanted, start, **given)

    module.network.train()
    vectors = after(8)
    assert module.network.training and not vectors.requires_grad
    assert all(p.grad is None for p in module.network.parameters())
    torch.testing.assert_close(after(8, slice(1, 3)), vectors[1:3], rtol=1e-2, atol=1e-3)
    module.network.eval()
    with torch.no_grad():
        errors = [
            (module.read(x, t, before(states, v)) - shown).square().mean((1, 2, 3))
            for v in (after(0), vectors)
        ]
    assert bool((errors[1] < errors[0]).all())


def test_where_the_adversary_writes():
    states, vectors = random(2, 6, 3), random(2, 2, 3)
    put = before(states, vectors)
    assert torch.equal(put[:, 0], states[:, 0]) and torch.equal(put[:, 1:3], vectors)
    assert torch.equal(put[:, 3:], states[:, 1:4]) and put.shape == states.shape
    behind = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1]], dtype=torch.bool)
    put = written(states, behind, vectors)
    assert torch.equal(put[0, 3:5], vectors[0]) and torch.equal(put[1, 5], vectors[1, 0])
    assert torch.equal(put[0, [0, 1, 2, 5]], states[0, [0, 1, 2, 5]])
    assert torch.equal(put[1, :5], states[1, :5])


# adv_unlearn


def test_before_the_adversary_it_is_esd_and_keeps_the_retained_prompts():
    task = new_task(network=spoken())
    plain = prompting(ESD(**STEPS, **OF_ESD), task)
    plain.prepare()
    wanted = plain.method.losses(plain)["forget"]
    module = prompting(adv_unlearn(warmup_share=1.0, retain_weight=2.0), task)
    module.prepare()
    losses = module.method.losses(module)
    assert losses["forget"].item() == pytest.approx(wanted.item(), rel=1e-6)
    assert losses["retain"].item() == 0
    with torch.no_grad():
        module.network.conv_out.bias += 0.5
    assert module.method.losses(module)["retain"].item() == pytest.approx(2 * 0.25, rel=1e-4)
    labels = module.method.kept.labels
    assert set((labels % 97).tolist()) == set(task.retain_classes) and len(labels) == 72 * 8


def test_its_answer_is_to_the_prompt_of_the_adversary():
    module = prompting(adv_unlearn(), new_task(network=spoken()))
    module.prepare()
    batch = module.draw("trajectory", module.method.blank, label_dropout=0.0)
    x_t = module.method.partly_denoised(module, batch)
    states = module.method.states(module, batch, x_t)
    own = module.network.class_embedding(batch.labels)
    assert torch.equal(states[:, 2:], own[:, 1:-1]) and not torch.equal(states[:, 1], own[:, 1])
    wanted = module.method.wanted(module, x_t, batch.t, batch.labels)
    by_hand = (module.read(x_t, batch.t, states) - wanted).square().mean()
    assert module.method.losses(module)["forget"].item() == pytest.approx(by_hand.item(), rel=1e-5)


# esd_attribute


def test_an_attribute_is_taken_from_what_stays_an_object():
    task = new_task(network=spoken())
    module = prompting(AttributeESD(**STEPS, **{**OF_ESD, "negative_guidance": 2.0}), task)
    module.prepare()
    c = task.forget_classes[0]
    x, t, table = random(1, 3, 16, 16), torch.tensor([300]), module.network.class_embedding
    object_alone = task.captions.captions[c][0].replace("red ", "")
    assert "red" not in object_alone and "circle" in object_alone

    def answered(text: str) -> Tensor:
        ids = task.captions.encoded(text, table.ids.shape[-1])[None]
        with torch.no_grad():
            return module.read(x, t, table.encoder(ids))

    wanted = answered(object_alone) - 2.0 * (answered("red") - answered(""))
    ours = module.method.wanted(module, x, t, torch.tensor([c]))
    assert torch.allclose(ours, wanted, atol=1e-5)
    (loss,) = module.method.losses(module).values()
    assert loss.requires_grad and loss > 0


# receler


def test_an_eraser_does_nothing_at_first_and_is_folded_into_the_output_projection(tmp_path: Path):
    module = prompting(receler(learning_rate=1e-2), new_task(network=spoken()))
    public, before_it = spoken(), copy.deepcopy(module.network.state_dict())
    x, t, labels = random(2, 3, 16, 16), torch.tensor([5, 700]), torch.tensor([0, 1])
    with torch.no_grad():
        was = denoiser.predict(public, x, t, labels)
        assert torch.equal(denoiser.predict(module.network.eval(), x, t, labels), was)
    train(module, tmp_path)
    assert all("to_out.1.1." in name for name in moved(before_it, module.network.state_dict()))
    module.save(tmp_path)
    plain = denoiser.load(tmp_path / "raw")
    folded = moved(public.state_dict(), plain.state_dict())
    ends = (".attn2.to_out.0.weight", ".attn2.to_out.0.bias")
    assert folded == {name for name in public.state_dict() if name.endswith(ends)}
    with torch.no_grad():
        now = denoiser.predict(plain, x, t, labels)
        torch.testing.assert_close(
            now, denoiser.predict(module.network.eval(), x, t, labels), rtol=1e-4, atol=1e-5
        )
    assert (now - was).abs().max() > 1e-3


def test_the_fold_by_hand():
    eraser, out = Eraser(5, 2, torch.Generator().manual_seed(0)), torch.nn.Linear(3, 5)
    for p in eraser.parameters():
        torch.nn.init.normal_(p, generator=torch.Generator().manual_seed(1))
    h = out(random(7, 3))
    low_rank = torch.eye(5) + eraser.up.weight @ eraser.down.weight
    wanted = h @ low_rank.T + eraser.up.bias
    torch.testing.assert_close(eraser(h), wanted)
    assert Eraser(5, 128, torch.Generator()).down.weight.shape == (5, 5)


def test_the_pixels_that_look_at_the_word():
    small, large = torch.zeros(1, 2, 4, 3), torch.zeros(1, 2, 16, 3)
    small[0, :, :, 1] = torch.tensor([0.1, 0.2, 0.3, 0.5])  # of four pixels, to the word
    small[0, :, :, 2] = 1.0
    word = torch.tensor([[False, True, False]])
    mask = looked_at([large, small], word, side=8, threshold=0.3)  # 2 is a quarter of 8
    assert mask.tolist() == [[[[0.0, 0.0], [1.0, 1.0]]]]  # (0.2 - 0.1) / 0.4 is below it
    added = torch.arange(8.0).view(1, 4, 2)  # squares 0, 1 and 4, 9 outside of M
    assert mean_outside(added, mask).item() == pytest.approx((0.5 + 6.5) / 2)
    larger = torch.ones(1, 16, 3)
    larger[0, 8:] = 7.0  # the lower half is in M
    assert mean_outside(larger, mask).item() == pytest.approx(1.0)
    assert mean_outside(larger, torch.ones(1, 1, 2, 2)).item() == 0


def test_its_losses_by_hand():
    module = prompting(receler(attack_steps=0, local_weight=3.0), new_task(network=spoken()))
    module.prepare()
    for eraser in module.method.erasers:
        torch.nn.init.constant_(eraser.up.bias, 0.2)
    net = module.network
    batch = module.draw("trajectory", module.method.blank, label_dropout=0.0)
    x_t = module.method.partly_denoised(module, batch)
    losses = module.method.losses(module)
    assert losses["outside"].item() == pytest.approx(3.0 * 0.04, rel=1e-4)
    ids = net.class_embedding.ids[batch.labels, 0]
    own = net.class_embedding(batch.labels)
    vectors = module.uniform("adversary", (16, 16))
    for row, tokens in enumerate(ids.tolist()):
        at = tokens.index(module.task.concept[0]) + 1
        own[row, at:] = vectors[row, : 12 - at]
    wanted = module.method.wanted(module, x_t, batch.t, batch.labels)
    by_hand = F.mse_loss(module.read(x_t, batch.t, own), wanted)
    assert losses["forget"].item() == pytest.approx(by_hand.item(), rel=1e-5)


# spm


def test_random_states_are_as_large_as_the_caption_and_cost_what_they_change(tmp_path: Path):
    module = prompting(spm(anchor_weight=5.0), new_task(network=spoken()))
    module.prepare()
    losses = module.method.losses(module)
    assert losses["anchor"].item() == 0  # nothing is added yet
    batch = module.draw("trajectory", module.method.blank, label_dropout=0.0)
    states = module.network.class_embedding(batch.labels)
    z = module.method.anchors(module, states)
    sizes = z.flatten(1).norm(dim=1) / states.flatten(1).norm(dim=1)
    assert 0.8 <= sizes.min() < sizes.max() <= 1.2
    with torch.no_grad():
        for name, p in module.network.named_parameters():
            if name.endswith(".B"):
                p.add_(0.1)
    x_t = module.method.partly_denoised(module, batch)
    known = spoken().read(x_t, batch.t, z)
    by_hand = 5 * F.mse_loss(module.read(x_t, batch.t, z), known)
    losses = module.method.losses(module)
    assert losses["anchor"].item() == pytest.approx(by_hand.item(), rel=1e-4)
    plain, x, t = module.method.exported(module.network), random(2, 3, 16, 16), torch.tensor([5, 9])
    changed = moved(spoken().state_dict(), plain.state_dict())
    assert changed and all(".attentions." in name for name in changed)
    torch.testing.assert_close(
        denoiser.predict(plain.eval(), x, t, t), denoiser.predict(module.network.eval(), x, t, t)
    )


def test_looking_changes_no_answer():
    net = spoken()
    x, t, labels = random(2, 3, 16, 16), torch.tensor([5, 700]), torch.tensor([0, 1])
    with torch.no_grad():
        output, maps = looks(net, lambda: denoiser.predict(net, x, t, labels))
        assert torch.equal(output, denoiser.predict(net, x, t, labels))
    assert len(maps) == sum(name.endswith(".attn2") for name, _ in net.named_modules())


# what comes of it


SIZES = dict(max_steps=12, batch_size=4)


@pytest.fixture(scope="module")
def away(tmp_path_factory) -> Callable[[Method], tuple[float, float]]:
    """Of a method, how far its model is from the original's answers under forgotten and under
    retained captions, in units of what a caption changes.
    """
    public, n = spoken(), 24
    x, t = random(n, 3, 16, 16), torch.linspace(0, 999, n).long()

    def moved_by(method: Method) -> tuple[float, float]:
        task = new_task(network=spoken())
        module = train(prompting(method, task), tmp_path_factory.mktemp("away"))
        net = method.exported(module.network).eval()
        distances = []
        for classes in (task.forget_classes, task.retain_classes):
            labels = torch.tensor(classes[:n])
            with torch.no_grad():
                was, now = (denoiser.predict(one, x, t, labels) for one in (public, net))
                empty = denoiser.predict(public, x, t, torch.full_like(labels, 96))
            distances.append(((now - was).norm() / (was - empty).norm()).item())
        return distances[0], distances[1]

    return moved_by


@pytest.fixture(scope="module")
def by_esd(away) -> tuple[float, float]:
    return away(ESD(**{**STEPS, **OF_ESD, **SIZES}))


@pytest.mark.parametrize(
    "method",
    [
        adv_unlearn(**SIZES, retain_weight=3.0, attack_steps=1),
        receler(**SIZES, learning_rate=6e-3, attack_steps=1),
        spm(**SIZES, learning_rate=6e-3, anchor_weight=10.0),
    ],
    ids=["adv_unlearn", "receler", "spm"],
)
def test_a_word_is_forgotten_and_the_rest_is_kept_better_than_by_esd(method, away, by_esd):
    forgotten, kept = away(method)
    print(method, forgotten, kept, by_esd)
    assert forgotten > 0.3 and kept / forgotten < by_esd[1] / by_esd[0]
