"""Stable Diffusion from a folder of diffusers, at tiny size: what is read, encoded once, trained,
drawn and written, each beside what plain diffusers makes of it.
"""

import copy
import json
import runpy
import shutil
from pathlib import Path

import pytest
import tiny_stable
import torch
from command import ROOT
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from runs import Cell
from safetensors.torch import load_file, save_file
from tiny import moved
from tiny_stable import FOLDERS, LENGTH, SCALING, SCHEDULE

from unrelearn.data import to_model_range
from unrelearn.data.imagenette import Imagenette
from unrelearn.diffusion import denoiser, pipelines
from unrelearn.diffusion.canonical import canonical, channels_of, rescale
from unrelearn.diffusion.captions import captions_of
from unrelearn.diffusion.checkpoint import STEM
from unrelearn.diffusion.clip import ClipCaptions
from unrelearn.diffusion.maths import alphas_of
from unrelearn.diffusion.sampling import sample
from unrelearn.diffusion.stable import FILES
from unrelearn.diffusion.step_memory import activations
from unrelearn.methods.original import Original
from unrelearn.randomness import generator_for
from unrelearn.record import conclude
from unrelearn.stage import make
from unrelearn.stages.images import images, stored
from unrelearn.stages.latents import EncodedCaptions, Latents
from unrelearn.stages.train import Unlearn

NAMES = list(FOLDERS.values())


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    return tiny_stable.write(tmp_path_factory.mktemp("models") / "sd")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tiny_stable.photographs(tmp_path_factory.mktemp("data") / "imagenette2-320")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """What is encoded once is so for all tests."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture
def cell(compose, theirs: Path, root: Path, outputs: Path):
    def made(*words: str) -> Cell:
        given = tiny_stable.overrides(theirs, root)
        return Cell(compose(*given, f"paths.outputs={outputs}", *words))

    return made


def plain(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, timestep_spacing="trailing")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# what is read


def test_imagenette_has_the_names_of_its_folders(root: Path):
    dataset = Imagenette(str(root), 16)
    data = dataset.load()
    assert dataset.check() == [] and list(dataset.class_names) == list(data.class_names) == NAMES
    assert data.train.images.shape == (18, 3, 16, 16) and len(data.test) == 6
    for label in range(3):  # each class has a colour
        means = data.train.of_classes([label]).images.float().mean((0, 2, 3))
        assert means.argmax() == label


def test_imagenette_says_which_folder_is_none_of_its_classes(tmp_path: Path):
    root = tiny_stable.photographs(tmp_path / "other", train=1, test=1)
    for part in ("train", "val"):
        (root / part / "n03028079").rename(root / part / "n99")
    (line,) = Imagenette(str(root), 16).check()
    assert "holds n99, which is no class of Imagenette" in line and "dataset=folder" in line


def test_the_schedule_of_latent_diffusion():
    wanted = DDIMScheduler(**SCHEDULE).alphas_cumprod
    torch.testing.assert_close(alphas_of(SCHEDULE), wanted, rtol=2e-5, atol=0)
    linear = alphas_of({**SCHEDULE, "beta_schedule": "linear"})
    assert not torch.allclose(alphas_of(SCHEDULE), linear)


def test_captions_are_read_as_the_pipeline_reads_them(cell, theirs: Path):
    run = cell()
    tensors = load_file(EncodedCaptions(run).build().path / pipelines.TABLE_FILE)
    pipeline = plain(theirs)
    for label, name in enumerate([*NAMES, None]):
        text = "" if name is None else f"an image of a {name}"
        states, _ = pipeline.encode_prompt(text, "cpu", 1, False)
        torch.testing.assert_close(tensors["weight"][label], states, rtol=0, atol=1e-6)
    assert tensors["ids"].shape == (4, 1, LENGTH)


def test_the_tokens_of_a_word_of_several(theirs: Path):
    dataset = type("Data", (), {"class_names": (*NAMES, "gas oil")})
    captions = ClipCaptions(captions_of(dataset, "an image of a {}").captions, theirs)
    (church,) = captions.tokens(captions.concept([2]))
    ids = captions.ids(LENGTH)
    assert (ids[2] == church).sum() == 1 and not (ids[[0, 1, 3, 4]] == church).any()
    oil = captions.tokens(captions.concept([3]))
    assert len(oil) == 6  # letters, as no merge knows the words
    assert ids[3, 0].tolist()[5:11] == oil


def test_images_are_encoded_once_and_scaled_by_the_autoencoders_own_factor(cell, theirs: Path):
    run = cell()
    seen, pixels = images(run), stored(run)
    vae = AutoencoderKL.from_pretrained(theirs / "vae")
    with torch.no_grad():
        wanted = vae.encode(to_model_range(pixels.train.images)).latent_dist.mode() * SCALING
    assert seen.train.images.dtype == torch.float16 and seen.train.images.shape == (18, 4, 8, 8)
    torch.testing.assert_close(seen.train.images.float(), wanted, rtol=1e-3, atol=1e-4)
    assert torch.equal(to_model_range(seen.train.images), seen.train.images.float())
    assert torch.equal(seen.train.labels, pixels.train.labels) and len(seen.test) == 6
    assert Latents(run).artifact is not None


# the denoiser


def test_the_denoiser_is_theirs_with_the_captions_and_is_written_for_plain_diffusers(
    cell, theirs: Path
):
    run = cell()
    make([run.original.stage])
    net, folder = run.original.stage.network(), run.original.weights
    unet = UNet2DConditionModel.from_pretrained(theirs / "unet")
    again = UNet2DConditionModel.from_pretrained(folder)  # the folder of our artefact
    z, t, labels = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), torch.tensor([2, 3])
    with torch.no_grad():
        states = net.class_embedding(labels)
        wanted = unet(z, t, states, return_dict=False)[0]
        assert torch.equal(denoiser.predict(net, z, t, labels), wanted)
        assert torch.equal(again(z, t, states, return_dict=False)[0], wanted)
    assert denoiser.null_label(net) == 3 and net.config.sample_size == 8
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == unet.state_dict().keys()
    before = copy.deepcopy(net.state_dict())
    denoiser.reinitialise(net, 5)
    changed = moved(before, net.state_dict())
    assert "conv_in.weight" in changed and not [n for n in changed if n.startswith(denoiser.TABLE)]


def test_the_canonical_form_is_the_same_function(cell):
    run = cell()
    make([run.original.stage])
    net = run.original.stage.network()
    other = copy.deepcopy(net)
    channels = channels_of(other)
    sets = channels.sets()
    factor = 0.5 + torch.rand(sets.max() + 1, generator=torch.Generator().manual_seed(0))
    rescale(channels, factor.numpy()[sets])
    z, t, labels = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), torch.tensor([2, 3])
    with torch.no_grad():
        wanted = denoiser.predict(net, z, t, labels)
        for network in (net, other):
            answer = denoiser.predict(canonical(network), z, t, labels)
            torch.testing.assert_close(answer, wanted, rtol=1e-2, atol=1e-3)
    one, another = net.state_dict(), other.state_dict()
    for name in one:
        torch.testing.assert_close(one[name], another[name], rtol=1e-3, atol=1e-5)


def test_what_is_drawn_is_what_the_pipeline_draws(cell, theirs: Path):
    """From the same noise, in pixels; for methods that train on it, in latents."""
    run = cell()
    make([run.original.stage])
    net, labels = run.original.stage.network(), torch.tensor([2, 0])
    settings = dict(schedule=SCHEDULE, num_inference_steps=4, guidance_scale=3.0)
    decode = run.kind.finish(torch.device("cpu"))
    drawn, latents = sample(net, labels, **settings, finish=decode), sample(net, labels, **settings)
    assert drawn.shape == (2, 3, 16, 16) and drawn.dtype == torch.uint8
    assert latents.shape == (2, 4, 8, 8) and latents.dtype == torch.float16
    generators = [generator_for(0, "image", k) for k in range(2)]
    out = plain(theirs)(
        [f"an image of a {NAMES[c]}" for c in labels.tolist()],
        height=16,
        width=16,
        num_inference_steps=4,
        guidance_scale=3.0,
        latents=torch.stack([torch.randn((4, 8, 8), generator=g) for g in generators]),
        output_type="pt",
    ).images
    assert (drawn.float() / 255 - out).abs().max() < 0.6 / 255  # rounding alone
    assert out.std() > 0.01
    assert sample(net, labels[:0], **settings, finish=decode).shape == (0, 3, 16, 16)


# the whole


@pytest.mark.parametrize("method", ["forget_me_not", "receler"])
def test_a_word_is_forgotten_attacked_measured_and_exported(
    cell, method: str, theirs: Path, tmp_path: Path
):
    short = ["method.max_steps=2", "+attack.parameters=cross_attention"]
    run = cell(f"method={method}", "attack=dimra", *short)
    record = conclude(run)
    rows = [(row["model"], row["step"], row["status"]) for row in record["rows"]]
    assert rows == [
        ("original", None, "finished"),
        ("unlearned", None, "finished"),
        ("attacked", 2, "finished"),
    ]
    samples = load_file(run.samples(run.unlearned).build().path / "samples.safetensors")
    assert samples["forget/2.0"].shape == (4, 3, 16, 16)
    before, after = (m.stage.network(m.step).state_dict() for m in run.models[:2])
    changed = moved(before, after)
    assert changed and all(".attn2." in name for name in changed)
    attacked = run.attacked[0].stage.network(2).state_dict()
    changed = moved(canonical(run.unlearned.stage.network()).state_dict(), attacked)
    assert changed and all(".attn2." in name for name in changed)
    assert json.dumps(record)  # nothing of it is a path or a tensor
    names = [stage.name for stage in run.stages()]
    assert names.count("latents") == names.count("captions") == 1
    made, weights = run.outputs / "runs" / record["name"], run.unlearned.weights
    exported_model_is_ours(made, weights, tmp_path, theirs)


def exported_model_is_ours(made: Path, weights: Path, folder: Path, theirs: Path) -> None:
    """Plain diffusers draws from it what we draw, and what changed is enough to have it."""
    export = runpy.run_path(str(ROOT / "scripts" / "export.py"))["main"]
    assert export([str(made), str(folder / "whole")]) == 0
    pipeline = plain(folder / "whole")
    out = pipeline(
        "an image of a church",
        height=16,
        width=16,
        num_inference_steps=3,
        guidance_scale=2.0,
        latents=torch.randn((4, 8, 8), generator=generator_for(0, "image", 0))[None],
        output_type="latent",
    ).images
    settings = dict(schedule=SCHEDULE, num_inference_steps=3, guidance_scale=2.0)
    net = denoiser.load(weights)
    ours = sample(net, torch.tensor([2]), **settings, finish=lambda x: x)
    torch.testing.assert_close(ours, out, rtol=0, atol=1e-4)
    card = (folder / "whole" / "README.md").read_text()
    assert 'Captions were "an image of a {}"' in card and "unet/config.json" in card
    assert export([str(made), str(folder / "part"), "--partial"]) == 0
    changed = load_file(folder / "part" / "changed.safetensors")
    assert changed and all(".attn2." in name for name in changed)
    unet = UNet2DConditionModel.from_pretrained(theirs / "unet")
    known = unet.load_state_dict(changed, strict=False)
    assert known.unexpected_keys == []
    assert not moved(unet.state_dict(), pipeline.unet.state_dict())


def test_what_a_method_left_as_it_was_is_stored_once(
    cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("unrelearn.artifact.SHARED", 1)  # there are no large files here
    run = cell("method=uce", "attack=none", f"paths.outputs={tmp_path}")
    make([run.unlearned.stage])
    before, after = (m.weights for m in (run.original, run.unlearned))
    same = [(before / name).samefile(after / name) for name in [*FILES, pipelines.TABLE_FILE]]
    assert same == [False, True, True, True]  # keys and values, other cross-attention, the rest
    net = denoiser.load(after)
    assert moved(denoiser.load(before).state_dict(), net.state_dict())
    # in one file, as it was written before
    shutil.copytree(after, tmp_path / "old", ignore=shutil.ignore_patterns("*-of-*", "*.index.*"))
    save_file(plain_weights(after), tmp_path / "old" / f"{STEM}.safetensors", {"format": "pt"})
    assert not moved(net.state_dict(), denoiser.load(tmp_path / "old").state_dict())


def plain_weights(folder: Path) -> dict[str, torch.Tensor]:
    return UNet2DConditionModel.from_pretrained(folder).state_dict()


@pytest.mark.parametrize(
    "method", ["salun", "esd", "uce", "dimum", "row_swap", "concept_ablation", "adv_unlearn", "spm"]
)
def test_methods_run_on_latents(cell, method: str):
    run = cell(f"method={method}", "attack=none")
    make([run.unlearned.stage])
    before, after = (m.stage.network(m.step).state_dict() for m in run.models)
    assert moved(before, after)
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())


@pytest.mark.parametrize(
    "attack", ["embedding_inversion", "few_shot", "lora", "dimra_aux", "quantize"]
)
def test_attacks_run_on_latents(cell, attack: str):
    short = ["attack.images_per_class=2"] if attack == "dimra_aux" else []
    run = cell("method=original", f"attack={attack}", *short)
    make([run.attacked[-1].stage])
    after = run.attacked[-1].stage.network(run.attacked[-1].step).state_dict()
    before = canonical(run.original.stage.network()).state_dict()
    changed, rows = moved(before, after), {denoiser.CLASS_EMBEDDING}
    if attack == "embedding_inversion":
        assert changed == rows
    else:
        assert changed and not changed & rows


def test_checkpointed_gradients_are_the_gradients(cell):
    gradients = []
    for words in ([], ["model.latent.gradient_checkpointing=true"]):
        run = cell("method=finetune", *words)
        make([run.original.stage])
        module = run.kind.training(run.method, Unlearn(run, run.original.stage).task())
        assert module.network.is_gradient_checkpointing == bool(words)
        module.network.train()
        batch = module.draw("retain", module.task.retain)
        module.loss(batch).mean().backward()
        named = module.network.named_parameters()
        gradients.append({name: p.grad for name, p in named if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-7)


def test_the_model_alone_brings_rates_and_sizes_of_its_own(compose, tmp_path: Path):
    words = ["model.checkpoint=/nowhere/sd14", f"dataset.root={tmp_path / 'none'}", "dry_run=true"]
    words += ["forget=church", "method=salun", "attack=dimra"]
    typed = compose("model=stable_diffusion", "dataset=imagenette", *words)
    assert typed == compose("experiment=imagenette", *words)
    assert typed["method"]["learning_rate"] == typed["attack"]["learning_rate"] == 1e-5
    other = compose("experiment=imagenette", "unlearning.learning_rate=3e-6", *words)
    assert other["method"]["learning_rate"] == 3e-6
    assert compose()["unlearning"]["learning_rate"] == 2e-4


def test_a_dry_run_counts_the_whole_size_of_what_is_not_here(compose, tmp_path: Path, capsys):
    words = ["model.checkpoint=/nowhere/sd15", f"dataset.root={tmp_path / 'not_yet'}"]

    def dry(*more: str) -> Cell:
        return Cell(compose("experiment=imagenette", "dry_run=true", *words, *more))

    run = dry("method=finetune")
    conclude(run)
    shown = capsys.readouterr()
    assert "not yet: model.checkpoint=/nowhere/sd15" in shown.err
    assert "a step of finetune: at most" in shown.out and "a step of dimra: at most" in shown.out
    flops, weights = run.kind.cost()
    assert weights == 859_520_964 and abs(flops / 1e9 - 180) < 1  # of Stable Diffusion 1
    parts = run.kind.memory(run.method)
    assert parts["weights"] == 4 * weights and parts["Adam"] == 8 * weights
    attention = dry("method=forget_me_not")
    less = attention.kind.memory(attention.method)
    assert less["Adam"] == 8 * 43_962_560 and less["activations"] == parts["activations"]
    fewer = dry("method=finetune", "model.latent.gradient_checkpointing=true")
    assert fewer.kind.memory(fewer.method)["activations"] < parts["activations"] / 3
    assert run.kind.memory(Original()) == {}  # it takes no step


def test_what_a_forward_pass_keeps_is_counted_once():
    """Of two linear layers the input of each, and what the activation between them keeps."""
    with torch.device("meta"):
        net = torch.nn.Sequential(torch.nn.Linear(10, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
        x = torch.empty(7, 10, requires_grad=True)
    # ReLU keeps its output, which is the input of the layer after it
    assert activations(net, x) == 4 * 7 * (10 + 20)


def test_methods_are_given_latents(cell):
    run = cell("method=finetune")
    make([run.original.stage])
    task = Unlearn(run, run.original.stage).task()
    assert task.retain.images.dtype == torch.float16 and not task.horizontal_flip
    assert task.forget.images.shape == (6, 4, 8, 8) and task.forget_classes == [2]
    module = run.kind.training(run.method, task)
    x = torch.full((1, 4, 8, 8), 3.0)
    assert torch.equal(module.bounded(x), x)
