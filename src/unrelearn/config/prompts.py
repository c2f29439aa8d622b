"""Rules of a denoiser that reads captions: its encoder, what of it stays, and what needs a word."""

from typing import Any

from hydra.utils import get_object

from unrelearn.advice import problem, typed
from unrelearn.config.classes import forget_classes
from unrelearn.config.groups import name_of
from unrelearn.config.rules import Problems, Rules
from unrelearn.config.schema import Config
from unrelearn.errors import UsageError

# what edits, re-steers or replaces the forgotten word itself
OF_WORDS = {
    "method": ("uce", "forget_me_not", "receler", "token_swap", "esd_attribute"),
    "attack": ("textual_inversion", "prompt_search"),
}


def reads_captions(cfg: Config) -> bool:
    return cfg.model.text is not None or cfg.model.latent is not None


def parts(cfg: Config) -> Problems:
    """That a network for prompts has a text encoder, and no other has."""
    unet, text, key = cfg.model.unet, cfg.model.text, "model.unet.architecture"
    if unet is None or (unet.architecture == "prompt") == (text is not None):
        return
    if text is None:
        yield problem(key, unet.architecture, "has no model.text", {"model": "tiny_text"})
    else:
        why = "reads no captions, and there is a model.text"
        yield problem(key, unet.architecture, why, {key: "prompt"})


def encoder(cfg: Config) -> Problems:
    text, key = cfg.model.text, "model.text.heads"
    if text is not None and text.width % text.heads:
        why = f"must divide model.text.width={text.width}"
        yield problem(key, text.heads, why, {key: 1})


def frozen(cfg: Config) -> Problems:
    """A table of states that moves is no text model: a caption would mean what training made it."""
    if not reads_captions(cfg):
        return
    # retrain asks for a new table, and is given the public one (Captioned.begin)
    new = get_object(cfg.method["_target_"]).from_scratch
    for key in ("train_class_embedding", *([] if new else ["method.train_class_embedding"])):
        group, _, name = key.rpartition(".")
        if (getattr(cfg, group).get(name) if group else cfg.train_class_embedding) is True:
            why = "the text encoder is public and frozen, and so are the states that it makes"
            yield problem(key, "true", why, {"train_class_embedding": False})


def elsewhere(cfg: Config) -> Problems:
    """Weights from elsewhere have no text encoder that was trained on these captions."""
    why = "is not read by a model that reads captions, as no text encoder comes with it"
    if cfg.model.text is not None and cfg.model.checkpoint is not None:
        instead = {"model.checkpoint": None}
        yield problem("model.checkpoint", cfg.model.checkpoint, why, instead)
    if cfg.model.text is not None and name_of(cfg.method) == "given":
        given = cfg.method.get("checkpoint")
        yield problem("method.checkpoint", given, why, "Type method=uce, or another one")


def of_classes(cfg: Config) -> Problems:
    """A method that reads the embedding of a class in the residual blocks."""
    if reads_captions(cfg) and name_of(cfg.method) == "projection_swap":
        why = "reads the embedding of a class, and here cross-attention reads a caption"
        yield problem("method", "projection_swap", why, "Type method=uce, its like for prompts")


def parameters(cfg: Config) -> Problems:
    """The names that method.parameters stands for are those of cross-attention."""
    for group in ("method", "attack"):
        value, key = getattr(cfg, group).get("parameters", "all"), f"{group}.parameters"
        if value != "all" and not reads_captions(cfg):
            why = f"model={cfg.model.name} has no cross-attention"
            instead = f"Leave {key} out, or type +{group}.blocks=[mid_block]"
            yield problem(key, value, why, instead)


RULES: Rules = (
    (parts, ("model.unet.architecture", "model.text")),
    (encoder, ("model.text",)),
    (frozen, ("train_class_embedding", "method.train_class_embedding")),
    (elsewhere, ("model.checkpoint", "method")),
    (of_classes, ("method",)),
    (parameters, ("method.parameters", "attack.parameters")),
)


def check_data(cfg: Config, dataset: Any) -> list[str]:
    """Captions longer than the encoder reads, and what needs a word where none is forgotten."""
    if not reads_captions(cfg):
        return []
    from unrelearn.diffusion.captions import captions_of

    captions, problems = captions_of(dataset), []
    (needed, text), key = captions.longest, "model.text.length"
    if name_of(cfg.attack) == "prompt_search":  # several tokens in place of a word
        needed += max(cfg.attack["levels"], default=1) - 1
    if cfg.model.text is not None and needed > cfg.model.text.length:
        why = f"the caption {text!r} needs {needed} tokens, with start and end"
        problems.append(problem(key, cfg.model.text.length, why, {key: needed}))
    try:
        forgotten = forget_classes(cfg.forget, dataset)
    except UsageError:  # said where `forget` is looked at
        return problems
    for group, names in OF_WORDS.items():
        chosen = name_of(getattr(cfg, group))
        if chosen in names and not captions.concept(forgotten):
            why = "needs a word that all forgotten captions share and not all others"
            instead = f"Type {typed({'forget': dataset.class_names[0]})}, or another {group}"
            problems.append(problem(group, chosen, why, instead))
    reworded = len(captions.paraphrases(forgotten)) * len(forgotten)
    images, key = cfg.sampler.num_images, "sampler.num_images"
    if "paraphrase_accuracy" in cfg.eval and len(forgotten) <= images < reworded:
        why = f"is shared by {reworded} paraphrases of what is forgotten, and the last ones"
        problems.append(problem(key, images, f"{why} would have no image", {key: 2 * reworded}))
    return problems
