"""Rules of a denoiser: its network, its noise, its sampler, and what of the data fits it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from unrelearn.advice import problem
from unrelearn.arguments import printed
from unrelearn.config import given, latents, prompts
from unrelearn.config.models import Schedule, UnetSettings
from unrelearn.config.rules import Problems, Rules
from unrelearn.config.schema import Config

OF_ATTRIBUTES = ("concept_accuracy", "domain_accuracy", "nearby_damage", "attributes_kept")

RESNET = "ResNet50_Weights.IMAGENET1K_V2"  # of torchvision


def unet_of(cfg: Config) -> UnetSettings:
    assert cfg.model.unet is not None
    return cfg.model.unet


def schedule_of(cfg: Config) -> Schedule:
    assert cfg.model.schedule is not None
    return cfg.model.schedule


def network(cfg: Config) -> Problems:
    """Widths, groups and attention of the UNet."""
    if cfg.model.unet is None:  # it comes with its weights
        return
    unet = unet_of(cfg)
    widths, groups, key = unet.block_out_channels, unet.norm_num_groups, "model.unet"
    if not widths or any(width < 1 or width % groups for width in widths):
        positive = widths and min(widths) > 0
        fits = [n for n in (32, 16, 8, 4, 2, 1) if positive and not any(w % n for w in widths)]
        why = f"each width must be a positive multiple of {key}.norm_num_groups={groups}"
        typed: dict[str, Any] = {f"{key}.block_out_channels": [4 * groups, 8 * groups]}
        if fits:
            typed = {f"{key}.norm_num_groups": fits[0]}
        yield problem(f"{key}.block_out_channels", widths, why, typed)
    levels = unet.attention_levels
    if any(level not in range(len(widths)) for level in levels):
        why = f"must be levels from 0 to {len(widths) - 1}"
        yield problem(f"{key}.attention_levels", levels, why, {f"{key}.attention_levels": []})
    if len(widths) > 8 or max(widths, default=0) > 65536:
        why, instead = "must be at most 8 widths, none above 65536", [32, 64]
        name = f"{key}.block_out_channels"
        yield problem(name, widths, why, {name: instead})
    head, name = unet.attention_head_dim, f"{key}.attention_head_dim"
    attending = [width for level, width in enumerate(widths) if level in levels]
    if head is not None and attending and head > min(attending):
        why = f"must be at most the widths with attention, {attending}"
        yield problem(name, head, why, {name: None})
    if head is not None and unet.architecture == "salun":
        yield problem(name, head, "the salun network has one head", {name: None})


def betas(cfg: Config) -> Problems:
    start, end = schedule_of(cfg).beta_start, schedule_of(cfg).beta_end
    if start >= end:
        why = f"must be below model.schedule.beta_end={end}, as noise grows with time"
        instead = "Type model.schedule.beta_start=1e-4 model.schedule.beta_end=0.02"
        yield problem("model.schedule.beta_start", start, why, instead)


def scales(cfg: Config) -> Problems:
    for name in ("guidance_scales", "retain_guidance_scales"):
        value, key = getattr(cfg.sampler, name), f"sampler.{name}"
        if not value or any(scale < 0 for scale in value):
            yield problem(key, value, "must be numbers from 0 up", {key: [1.0]})


def denoising_steps(cfg: Config) -> Problems:
    steps, times = cfg.sampler.num_inference_steps, schedule_of(cfg).num_train_timesteps
    if steps > times:
        key = "sampler.num_inference_steps"
        why = f"must be at most model.schedule.num_train_timesteps={times}"
        yield problem(key, steps, why, {key: times})


def pretrained(cfg: Config) -> Problems:
    """A model from elsewhere."""
    from unrelearn.diffusion import checkpoint

    model, key = cfg.model, "model.checkpoint"
    if model.checkpoint is None or model.text is not None or model.latent is not None:
        return
    path = Path(model.checkpoint)
    if not path.exists():
        instead = "Type model.checkpoint=null to train the model here"
        yield problem(key, path, "no such file or folder", instead)
    elif path.is_dir():
        yield from checkpoint.check(path, asdict(schedule_of(cfg)), model.weights)
    else:
        yield from given.published(cfg, key, path)


def held_out(cfg: Config) -> Problems:
    share, key = cfg.held_out.share, "held_out.share"
    if share and cfg.model.checkpoint is not None:
        why = "nobody knows which images a model from elsewhere has not seen"
        yield problem(key, share, why, {key: 0.0})


def membership(cfg: Config) -> Problems:
    """Test images differ from training images by more than chance, in some data sets."""
    if "membership" not in cfg.eval:
        return
    if not cfg.held_out.share:
        why = "needs images of its classes that no model of the run saw, drawn by chance"
        yield f"eval.membership: {why}. Type held_out.share=0.5"
    scores, key = cfg.eval["membership"]["scores"], "eval.membership.scores"
    if not scores or len({*scores}) < len(scores):
        instead = {key: [*dict.fromkeys(scores)] or ["loss"]}
        yield problem(key, printed(scores), "must be one or more, each once", instead)


def judge(cfg: Config) -> Problems:
    if "judge" not in cfg.eval:
        return
    from unrelearn.evals import judge

    settings = cfg.eval["judge"]
    if misfit := judge.check(str(settings["file"]), str(settings["weights"])):
        name, why = misfit
        instead = {"file": "/path/resnet50-11ad3fa6.pth", "weights": RESNET}[name]
        yield problem(f"eval.judge.{name}", settings[name], why, {f"eval.judge.{name}": instead})
        return
    classes, known = settings["classes"], judge.known_classes(settings["weights"])
    if isinstance(classes, list) and any(number not in range(known) for number in classes):
        why, key = f"must be numbers from 0 to {known - 1}", "eval.judge.classes"
        yield problem(key, printed(classes), why, {key: [0, 217]})


def fid_64(cfg: Config) -> Problems:
    from unrelearn.evals import fid_64

    if not (measured := fid_64.asked(cfg.eval)):
        return
    name, file = measured
    if why := fid_64.check(file):
        key = f"eval.{name}.file"
        yield problem(key, file, why, {key: f"/path/{fid_64.NAME}"})


RULES: Rules = (
    (given.whole, ("model.checkpoint", "method", "model.schedule")),
    (given.asked, ("model.checkpoint", "method", "attack", "sampler.", "model.pretrain")),
    (network, ("model.unet.",)),
    (betas, ("model.schedule.beta",)),
    (scales, ("sampler.guidance", "sampler.retain_guidance")),
    (denoising_steps, ("sampler.num_inference_steps", "model.schedule.num_train_timesteps")),
    (pretrained, ("model.checkpoint",)),
    (held_out, ("held_out.", "model.checkpoint")),
    (membership, ("held_out.", "eval.")),
    (judge, ("eval.",)),
    (fid_64, ("eval.",)),
    *prompts.RULES,
    *latents.RULES,
)


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Problems of a data set with this network."""
    problems = [*_judged(cfg, dataset), *_attributes(cfg, dataset)]
    problems += prompts.check_data(cfg, dataset)
    if cfg.model.latent is not None:
        return [*latents.check_data(cfg, dataset), *problems]
    problems += _image_size(cfg, dataset)
    if not problems and cfg.model.text is None:
        problems += _blocks(cfg, dataset)
    return problems + ([] if cfg.model.text else _checkpoint(cfg, dataset))


def _blocks(cfg: Config, dataset: Any) -> list[str]:
    """Beginnings of names that no parameter has, before anything is trained."""
    asked = {group: getattr(cfg, group).get("blocks") for group in ("method", "attack")}
    asked = {group: blocks for group, blocks in asked.items() if blocks and type(blocks) is list}
    if not asked:
        return []
    import torch

    from unrelearn.diffusion import denoiser
    from unrelearn.training import no_such_block

    shape = {"image_size": dataset.image_size, "channels": dataset.channels}
    with torch.device("meta"):
        count = len(dataset.class_names)
        network = denoiser.build(**shape, num_classes=count, **asdict(unet_of(cfg)))
    names = [name for name, _ in network.named_parameters()]
    return [
        no_such_block(group, blocks, names)
        for group, blocks in asked.items()
        if not any(name.startswith(tuple(map(str, blocks))) for name in names)
    ]


def _judged(cfg: Config, dataset: Any) -> list[str]:
    classes, count = (cfg.eval.get("judge") or {}).get("classes"), len(dataset.class_names)
    if not isinstance(classes, list) or len(classes) == count:
        return []
    why = f"has {len(classes)}, and the data set {count}"
    return [f"eval.judge.classes: {why}. Type the number of ImageNet's class for each, in order"]


def _attributes(cfg: Config, dataset: Any) -> list[str]:
    """Measurements of what the classes of a data set have not."""
    needed = [] if getattr(dataset, "attributes", None) else [*OF_ATTRIBUTES]
    needed += [] if prompts.reads_captions(cfg) else ["paraphrase_accuracy"]
    name = type(dataset).__name__
    return [
        f"eval={one}: reads attributes or wordings of classes, which {name} with model="
        f"{cfg.model.name} has not. Leave it out of eval=[...]"
        for one in needed
        if one in cfg.eval
    ]


def _image_size(cfg: Config, dataset: Any) -> list[str]:
    size, halvings = dataset.image_size, len(unet_of(cfg).block_out_channels) - 1
    factor = 2**halvings
    if size % factor == 0:
        return []
    return [
        f"dataset image size {size}: the network model={cfg.model.name} halves it {halvings} times,"
        f" so it must be a multiple of {factor}. Type"
        f" dataset.image_size={max(1, round(size / factor)) * factor}"
    ]


def _checkpoint(cfg: Config, dataset: Any) -> list[str]:
    if cfg.method["_target_"] == given.TARGET:
        return given.check_data(cfg, dataset)
    if cfg.model.checkpoint is None:
        return []
    from unrelearn.diffusion import checkpoint

    shape = {"image_size": dataset.image_size, "channels": dataset.channels}
    path, count = Path(cfg.model.checkpoint), len(dataset.class_names)
    lines = checkpoint.check_shape(path, **shape, num_classes=count)
    # the shape alone, without a row for no class
    lent = cfg.reference and not checkpoint.check_shape(path, **shape, num_classes=count - 1)
    return [] if lent else lines
