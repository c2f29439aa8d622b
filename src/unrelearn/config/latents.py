"""Rules of Stable Diffusion: its folder, what of the data fits it, and what needs more than it."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.utils import get_object

from unrelearn.advice import problem, say_once
from unrelearn.config.groups import name_of
from unrelearn.config.rules import Problems, Rules
from unrelearn.config.schema import Config

KEY = "model.checkpoint"
# what works on pixels, or trains its own model
NOT_HERE = {
    ("method", "selective_amnesia"): "draws uniform pixels, and here a denoiser sees latents",
    ("method", "given"): "reads a network of images and classes",
    ("attack", "dimra_proxy"): "trains on pixels of other images, and here a denoiser sees latents",
}


def package(cfg: Config) -> Problems:
    if cfg.model.latent is not None and find_spec("transformers") is None:
        why = "its text encoder needs the package transformers"
        yield problem("model", cfg.model.name, why, "Type pip install 'unrelearn[text]'")


def folder(cfg: Config) -> Problems:
    """The folder of the pipeline; in a dry run it need not be here yet."""
    from unrelearn.diffusion import pipelines

    model, given = cfg.model, cfg.model.checkpoint
    if model.latent is None:
        return
    if given is not None and cfg.dry_run and not Path(given).exists():
        size = "counted is the size of Stable Diffusion 1"
        say_once(f"not yet: {KEY}={given}: no such folder; {size}")
    elif given is None:
        why = "nobody trains Stable Diffusion here"
        yield problem(KEY, "null", why, f"Type {KEY}=FOLDER with one that diffusers wrote")
    else:
        assert model.schedule is not None
        yield from pipelines.check(Path(given), asdict(model.schedule))


def weights(cfg: Config) -> Problems:
    if cfg.model.latent is not None and cfg.model.weights != "raw":
        why = "a folder of diffusers holds one set of weights"
        yield problem("model.weights", cfg.model.weights, why, {"model.weights": "raw"})


def caption(cfg: Config) -> Problems:
    latent, key = cfg.model.latent, "model.latent.caption"
    if latent is not None and latent.caption.count("{}") != 1:
        why, instead = "must hold {} once, where the name of the class stands", "a photo of a {}"
        yield problem(key, latent.caption, why, {key: instead})


def possible(cfg: Config) -> Problems:
    """What can not be done with latents, or without training the original."""
    if cfg.model.latent is None:
        return
    for (group, name), why in NOT_HERE.items():
        if name_of(getattr(cfg, group)) == name:
            yield problem(group, name, why, f"Type another {group}")
    method = get_object(cfg.method["_target_"])
    if method.from_scratch:
        why = "nobody can train Stable Diffusion again without the class"
        yield problem("method", name_of(cfg.method), why, "Type method=finetune, or another one")
    if cfg.method.get("memory") in ("nearest_class", "noise"):
        why, key = "looks at pixels, and here a denoiser sees latents", "method.memory"
        yield problem(key, cfg.method["memory"], why, {key: "another_class"})


RULES: Rules = (
    (package, ("model.latent",)),
    (folder, (KEY, "model.schedule", "model.latent")),
    (weights, ("model.weights",)),
    (caption, ("model.latent",)),
    (possible, ("method", "attack")),
)


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Problems of images and captions with this autoencoder and text encoder."""
    from unrelearn.diffusion import pipelines

    path = Path(cfg.model.checkpoint or "/nowhere")
    if pipelines.broken(path):  # as `folder` says
        return []
    vae, unet = (pipelines.config_of(path, part) for part in ("vae", "unet"))
    return [*_images(dataset, vae, unet), *_captions(cfg, dataset, path)]


def _images(dataset: Any, vae: dict[str, Any], unet: dict[str, Any]) -> list[str]:
    from unrelearn.diffusion.latents import factor_of

    size, problems = dataset.image_size, []
    factor = factor_of(vae) * 2 ** (len(unet["block_out_channels"]) - 1)
    if dataset.channels != vae["in_channels"]:
        why = f"has images of {dataset.channels} channels, and the autoencoder reads"
        problems.append(
            f"dataset: {why} {vae['in_channels']}. Type dataset=imagenette, or another in colour"
        )
    if size % factor:
        why = "the autoencoder and the network halve it, so it must be a multiple of"
        instead = f"Type dataset.image_size={max(1, round(size / factor)) * factor}"
        problems.append(f"dataset image size {size}: {why} {factor}. {instead}")
    return problems


def _captions(cfg: Config, dataset: Any, path: Path) -> list[str]:
    from unrelearn.diffusion.captions import captions_of
    from unrelearn.diffusion.clip import ClipCaptions

    assert cfg.model.latent is not None
    plain = captions_of(dataset, cfg.model.latent.caption)
    captions, key = ClipCaptions(plain.captions, path), "model.latent.caption"
    if not captions.may_be_too_long:
        return []
    needed, text = captions.longest
    if needed <= captions.length:
        return []
    why = f"the caption {text[:60]!r} needs {needed} tokens, with start and end, and the text"
    instead: dict[str, Any] = {key: "a photo of a {}"}
    return [
        problem(key, cfg.model.latent.caption, f"{why} encoder reads {captions.length}", instead)
    ]
