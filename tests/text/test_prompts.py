"""The network that is called with labels and reads captions: that it is the class-conditional path,
what diffusers reads of it, and what of it stays.
"""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from runs import Cell
from tiny import SCHEDULE, denoising, moved, train
from tiny_text import CAPTIONS, SHAPES, data, network, new_task, prompting
from torch import nn
from torch.nn import functional as F

from unrelearn.config import forget_classes
from unrelearn.data import ImageSet
from unrelearn.diffusion import denoiser
from unrelearn.diffusion.canonical import canonical, channels_of, rescale
from unrelearn.diffusion.captions import END, Captions, captions_of
from unrelearn.diffusion.denoising import DenoisingTask
from unrelearn.diffusion.prompts import PromptUNet
from unrelearn.diffusion.text_training import EncoderRecipe, meaning, train_encoder
from unrelearn.diffusion.weights import compare
from unrelearn.methods.concept_ablation import ConceptAblation
from unrelearn.methods.dimum import DiMUM
from unrelearn.methods.esd import ESD
from unrelearn.methods.finetune import Finetune
from unrelearn.methods.salun import SalUn
from unrelearn.report.words import forgotten

STEPS = dict(max_steps=1, batch_size=8, learning_rate=1e-3)
METHODS = {
    "finetune": Finetune(**STEPS),
    "salun": SalUn(**STEPS, retain_weight=1.0, saliency_fraction=0.5),
    "dimum": DiMUM(**STEPS, memory="another_class"),
    "esd": ESD(**STEPS, negative_guidance=1.0, start_guidance=3.0, num_inference_steps=2),
    "concept_ablation": ConceptAblation(**STEPS, anchor="another_class"),
}


def there(count: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(count, 3, 16, 16, generator=g), torch.randint(1000, (count,), generator=g)
    return x, t, torch.randint(97 * CAPTIONS.wordings, (count,), generator=g)


class ByClass(nn.Module):
    """A class-conditional denoiser: an ordinary table of one vector for each class, which the UNet
    of diffusers reads.
    """

    def __init__(self, unet: UNet2DConditionModel, rows: torch.Tensor):
        super().__init__()
        self.unet, self.class_embedding = unet, nn.Embedding.from_pretrained(rows.clone())
        self.config = unet.config

    def forward(self, x_t, t, class_labels, return_dict=True):
        states = self.class_embedding(class_labels)[:, None]
        return self.unet(x_t, t, states, return_dict=return_dict)


def of_one_token(words: int = 10) -> PromptUNet:
    """One row for each of ten classes and the null label, of one token."""
    torch.manual_seed(0)
    prompt = dict(wordings=1, length=1, width=16, layers=1, heads=2, vocabulary=["a"] * words)
    shape = dict(image_size=8, channels=1, num_classes=10, prompt=prompt)
    from tiny_text import UNET

    net = denoiser.build(**shape, **UNET)
    net.class_embedding.weight.data = torch.randn(11, 1, 1, 16)
    return net


@pytest.mark.parametrize("name", METHODS)
def test_one_row_for_each_class_is_the_class_conditional_path(name: str):
    """The same losses and gradients to 1e-6, by methods that know no text."""
    from tiny import digits

    text = of_one_token()
    plain = UNet2DConditionModel.from_config(
        {k: v for k, v in text.config.items() if k in UNet2DConditionModel.__init__.__annotations__}
        | {k: text.config[k] for k in ("block_out_channels", "down_block_types", "up_block_types")}
    )
    own = {k: v for k, v in text.state_dict().items() if not k.startswith("class_embedding.")}
    plain.load_state_dict(own)
    by_class = ByClass(plain, text.class_embedding.weight[:, 0, 0].detach())
    images, losses, gradients = digits(), [], []
    for net in (text, by_class):
        method = copy.deepcopy(METHODS[name])
        task = DenoisingTask(
            network=net,
            schedule=SCHEDULE,
            forget=images.of_classes([7]),
            retain=images.of_classes([7], keep=False),
            forget_classes=[7],
            class_names=tuple("0123456789"),
            seed=0,
        )
        module = denoising(method, task)
        module.prepare()
        losses.append(method.losses(module))
        sum(losses[-1].values()).backward()
        grads = {n.removeprefix("unet."): p.grad for n, p in net.named_parameters()}
        gradients.append({n: g for n, g in grads.items() if g is not None})
    for term, loss in losses[0].items():
        assert torch.allclose(loss, losses[1][term], rtol=1e-6, atol=1e-7), term
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][key], rtol=1e-5, atol=1e-6), key


def test_plain_diffusers_reads_the_written_folder(tmp_path: Path):
    net = network()
    denoiser.save(net, tmp_path, SCHEDULE)
    again, plain = denoiser.load(tmp_path), UNet2DConditionModel.from_pretrained(tmp_path)
    x, t, labels = there()
    with torch.no_grad():
        wanted = denoiser.predict(net, x, t, labels)
        assert torch.equal(denoiser.predict(again, x, t, labels), wanted)
        states = net.class_embedding(labels)
        assert torch.equal(plain(x, t, states, return_dict=False)[0], wanted)
    assert list(again.config.vocabulary) == CAPTIONS.vocabulary


def test_a_label_is_a_class_in_a_wording():
    net = network()
    table, ids = net.class_embedding, net.class_embedding.ids
    labels = torch.tensor([5, 5 + 97 * 3, 96, 96 + 97])
    wanted = table.encoder(ids[torch.tensor([5, 5, 96, 96]), torch.tensor([0, 3, 0, 1])])
    assert torch.allclose(table(labels), wanted, atol=1e-6)
    assert torch.equal(table(labels)[2], table(labels)[3])  # the empty prompt has no wordings
    assert denoiser.null_label(net) == 96
    table.live = True
    assert torch.allclose(table(labels), wanted, atol=1e-6)


def test_the_encoder_is_causal():
    """What comes after the colour knows of it, what stands before does not."""
    encoder, vocabulary = network().class_embedding.encoder, CAPTIONS.vocabulary
    texts = [f"a photo of a large {colour} solid square" for colour in ("red", "green")]
    red, green = encoder(torch.stack([CAPTIONS.encoded(text, 12) for text in texts]))
    differs = (red - green).abs().amax(-1) > 1e-6
    at = CAPTIONS.encoded(texts[0], 12).tolist().index(vocabulary.index("red"))
    assert not differs[:at].any() and differs[at:].all()


def test_methods_leave_the_table_and_the_encoder_to_the_bit(tmp_path: Path):
    for name in ("salun", "dimum"):
        module = prompting(copy.deepcopy(METHODS[name]))
        before = copy.deepcopy(module.network.state_dict())
        changed = moved(before, train(module, tmp_path / name).network.state_dict())
        assert changed and not [n for n in changed if n.startswith("class_embedding.")]


def test_retrain_draws_new_weights_and_keeps_the_encoder():
    net = network()
    before = copy.deepcopy(net.state_dict())
    denoiser.reinitialise(net, 9)
    changed = moved(before, net.state_dict())
    assert "conv_in.weight" in changed
    assert not [name for name in changed if name.startswith("class_embedding.")]


@pytest.mark.parametrize(
    ("parameters", "inside"),
    [
        ("cross_attention", lambda name: ".attn2." in name),
        ("key_value", lambda name: ".attn2.to_k" in name or ".attn2.to_v" in name),
        ("not_cross_attention", lambda name: ".attn2." not in name),
    ],
)
def test_parameters_move_by_their_names(parameters: str, inside, tmp_path: Path):
    module = prompting(DiMUM(**STEPS, memory="counterpart", parameters=parameters))
    before = copy.deepcopy(module.network.state_dict())
    changed = moved(before, train(module, tmp_path).network.state_dict())
    own = {n for n, _ in module.network.named_parameters() if not n.startswith("class_embedding.")}
    assert changed == {name for name in own if inside(name)}


# what is forgotten


def test_the_word_of_a_group_and_what_paraphrases_it():
    for word in ("red", "circle", "red circle", "small"):
        assert CAPTIONS.concept(forget_classes(word, SHAPES)) == word.split()
    red = forget_classes("red", SHAPES)
    said = {CAPTIONS.captions[red[0]][w].split()[5] for w in CAPTIONS.paraphrases(red)}
    assert said == {"crimson", "scarlet"}
    assert CAPTIONS.concept([0, 95]) == []  # no word names both
    classes = captions_of(type("Data", (), {"class_names": ("cat", "dog")}))
    assert classes.concept([1]) == ["dog"] and classes.paraphrases([1]) == []


def test_a_stand_in_is_the_caption_with_the_word_edited():
    task = new_task("red")
    labels = torch.tensor([task.forget_classes[3], task.forget_classes[3] + 97 * 2, 96])
    other = task.stand_ins(labels)
    assert other[2] == 96 and other[1] - other[0] == 97 * 2
    a, b = (CAPTIONS.captions[label][0].split() for label in (labels[0], other[0]))
    assert [(x, y) for x, y in zip(a, b, strict=True) if x != y] == [("red", "green")]


def test_images_keep_their_wording_and_dropped_ones_have_none():
    module = prompting(Finetune(**{**STEPS, "batch_size": 64}, label_dropout=0.5))
    batch = module.draw("retain", module.task.retain)
    wordings, classes = batch.labels // 97, batch.labels % 97
    null = classes == 96
    assert null.any() and (wordings[null] == 0).all()
    assert len(wordings[~null].unique()) > 3
    assert not torch.isin(classes, torch.tensor(module.task.forget_classes)).any()
    assert module.task.shots(2).wordings is None


# the encoder


def test_the_encoder_tells_synonyms_apart_and_knows_colours():
    """At a fifth of its training: no two words of a value are one, and a caption is nearer to its
    synonym than to the same in another colour.
    """
    table, end = network().class_embedding, CAPTIONS.vocabulary.index(END)
    recipe = EncoderRecipe(max_steps=60, batch_size=64, learning_rate=5e-3, seed=0)
    losses = train_encoder(table, data().train, end, recipe)
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    tokens = F.normalize(table.encoder.tokens.weight, dim=-1)
    place = CAPTIONS.vocabulary.index
    for one, other in (("red", "crimson"), ("red", "scarlet"), ("circle", "disc")):
        assert tokens[place(one)] @ tokens[place(other)] < 0.9
    texts = [f"a photo of a large {word} solid square" for word in ("red", "crimson", "blue")]
    red, crimson, blue = meaning(table, torch.stack([CAPTIONS.encoded(t, 12) for t in texts]), end)
    assert red @ blue < red @ crimson < 0.99
    assert not table.weight.requires_grad
    assert not any(p.requires_grad for p in table.encoder.parameters())


def test_the_encoder_is_a_function_of_its_seed():
    def trained(seed: int) -> torch.Tensor:
        table = network().class_embedding
        small = ImageSet(data().train.images[:200], data().train.labels[:200])
        recipe = EncoderRecipe(max_steps=2, batch_size=8, learning_rate=1e-3, seed=seed)
        train_encoder(table, small, 2, recipe)
        return table.weight.detach()

    assert torch.equal(trained(0), trained(0)) and not torch.equal(trained(0), trained(1))


# how it is written


def test_the_canonical_form_of_cross_attention_is_the_same_function():
    net = network(3)
    x, t, labels = there()
    with torch.no_grad():
        wanted = denoiser.predict(net, x, t, labels)
        other = copy.deepcopy(net)
        channels = channels_of(other)
        sets = channels.sets()
        factors = np.exp(np.random.default_rng(0).normal(0, 0.5, sets.max() + 1))
        rescale(channels, factors[sets])
        for q, k, v, projection in channels.attentions:
            for layer, factor in ((q, 3.0), (k, 1 / 3.0), (v, 0.2), (projection, 5.0)):
                layer.weight.mul_(factor)
                if layer.bias is not None and layer is not projection:
                    layer.bias.mul_(factor)
        scale = wanted.abs().max()
        assert (denoiser.predict(other, x, t, labels) - wanted).abs().max() < 1e-3 * scale
        assert not torch.allclose(other.conv_in.weight, net.conv_in.weight)
        forms = [canonical(copy.deepcopy(one)).state_dict() for one in (net, other)]
        again = canonical(copy.deepcopy(net))
        assert (denoiser.predict(again, x, t, labels) - wanted).abs().max() < 1e-4 * scale
    for name, weight in forms[0].items():
        if weight.is_floating_point():
            assert torch.allclose(weight, forms[1][name], rtol=1e-3, atol=1e-5), name


def test_what_moved_is_told_for_forgotten_and_retained_captions():
    net, red = network(), forget_classes("red", SHAPES)
    other = copy.deepcopy(net)
    other.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight.data.mul_(2)
    change = compare(net, other, red, 1000)
    assert change["projection_change"]["forgotten"] == pytest.approx(
        change["projection_change"]["retained"], rel=1e-4
    )
    assert change["projection_change"]["forgotten"] > 0 and not change["class_rows_changed"]


def test_captions_of_several_lengths_end_in_padding():
    ids = Captions([["a dog"], ["a large dog"]]).ids(6)
    assert ids.shape == (3, 1, 6)
    assert (ids[:, 0] == 0).sum(1).tolist() == [2, 1, 4]


def test_a_word_is_called_by_itself_in_folders_and_reports(compose):
    kind = Cell(compose("experiment=text", 'forget="red circle"')).kind
    assert kind.label == "red_circle" and len(kind.forget) == 6
    assert Cell(compose("experiment=text", "forget=[0,1]")).kind.label == "0_1"
    record = {
        "forget_classes": kind.forget,
        "class_names": list(SHAPES.class_names),
        "config": {"forget": "red circle"},
    }
    assert forgotten(record) == '"red circle"'
