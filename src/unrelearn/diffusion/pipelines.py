"""A folder of Stable Diffusion as diffusers writes it: unet/, vae/, text_encoder/, tokenizer/ and
scheduler/. What is wrong with it is said by its small files and by the headers of its weights;
nothing is unpickled.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from unrelearn.artifact import sha256
from unrelearn.diffusion import checkpoint, clip, denoiser
from unrelearn.diffusion.latents import Codec
from unrelearn.errors import UsageError

if TYPE_CHECKING:  # diffusers is imported where a network is made or read
    from unrelearn.diffusion.stable import StableUNet

TABLE_FILE = "captions.safetensors"  # beside the weights of a denoiser that has read them
CLASS = "StableDiffusionPipeline"
# of each part with weights: its class, and what its files are called
PARTS = {
    "unet": ("UNet2DConditionModel", checkpoint.STEM),
    "vae": ("AutoencoderKL", checkpoint.STEM),
    "text_encoder": ("CLIPTextModel", "model"),
}
SMALL = {"tokenizer": ("tokenizer_config.json",), "scheduler": ("scheduler_config.json",)}
TOKENS = ({"vocab.json", "merges.txt"}, {"tokenizer.json"})  # either is enough
ONE_FILE = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def refused(path: Path, why: str) -> UsageError:
    return UsageError(
        f"model.checkpoint={path}: is not read as Stable Diffusion ({why}). Type"
        " model.checkpoint=FOLDER with unet, vae, text_encoder, tokenizer and scheduler"
    )


def config_of(path: Path, part: str) -> dict[str, Any]:
    """What the config.json of a part says.

    Raises:
        UsageError: it can not be read.
    """
    try:
        content = json.loads((path / part / "config.json").read_text())
    except (OSError, ValueError) as error:
        why = f"{part}/config.json: {getattr(error, 'strerror', None) or error}"
        raise refused(path, why) from None
    if not isinstance(content, dict):
        raise refused(path, f"{part}/config.json holds no object")
    return content


def broken(path: Path) -> list[str]:
    """The first problem of a folder, if there is one."""
    try:
        _check_parts(path)
        _check_fit(path)
    except UsageError as error:
        return error.problems
    return []


def check(path: Path, schedule: dict[str, Any]) -> list[str]:
    """As `broken`, or where its schedule is not `schedule`, which is model.schedule."""
    if problems := broken(path):
        return problems
    line = checkpoint.schedule_problem(path / "unet", schedule)
    return [line] if line else []


def _check_parts(path: Path) -> None:
    if path.suffix in ONE_FILE and path.is_file():
        pickled = "" if path.suffix == ".safetensors" else "a pickle, which could run any program: "
        write = f"python scripts/unpack_checkpoint.py {path} FOLDER"
        raise refused(path, f"{pickled}a file, of which {write} makes such a folder")
    if not path.is_dir():
        raise refused(path, "no such folder")
    index = path / "model_index.json"
    if not index.is_file():
        raise refused(path, "it holds no model_index.json")
    try:
        named = json.loads(index.read_text()).get("_class_name")
    except (ValueError, AttributeError):
        raise refused(path, "its model_index.json is not whole: download it again") from None
    if named != CLASS:
        raise refused(path, f"a {named}, and read is a {CLASS}")
    for part, files in SMALL.items():
        for name in files:
            if not (path / part / name).is_file():
                raise refused(path, f"{part}/{name} is missing: download it again")
    there = {file.name for file in (path / "tokenizer").iterdir()}
    if not any(names <= there for names in TOKENS):
        raise refused(path, "tokenizer/ holds no vocab.json and merges.txt: download it again")
    for part, (kind, stem) in PARTS.items():
        if not (path / part).is_dir():
            raise refused(path, f"it has no {part}")
        config = config_of(path, part)
        written = config.get("_class_name") or (config.get("architectures") or ["of no class"])[0]
        if written != kind:
            raise refused(path, f"{part} is {written}, and not {kind}")
        variant(path, part, stem)


def variant(path: Path, part: str, stem: str) -> str | None:
    """Which of its weights are read: None for the ordinary file, else e.g. "fp16".

    Raises:
        UsageError: there are none in safetensors, or they are not whole.
    """
    try:
        return checkpoint.variant(path / part, stem)
    except checkpoint.Unreadable as error:
        raise refused(path, f"{part}: {error.why}") from None


def _check_fit(path: Path) -> None:
    """That the parts are of one model, and of one that is read here."""
    unet, vae, text = (config_of(path, part) for part in PARTS)
    for key in ("class_embed_type", "addition_embed_type", "encoder_hid_dim", "num_class_embeds"):
        if unet.get(key) is not None:
            raise refused(path, f"its unet has {key}={unet[key]}, which captions alone do not feed")
    if unet.get("in_channels") != vae.get("latent_channels"):
        latents = f"its unet reads {unet.get('in_channels')} channels and its vae writes"
        raise refused(path, f"{latents} {vae.get('latent_channels')}")
    width = text.get("hidden_size")
    if unet.get("cross_attention_dim") != width:
        reads = f"its unet reads states of {unet.get('cross_attention_dim')} numbers and its"
        raise refused(path, f"{reads} text_encoder writes {width}")


# ---- its parts -----------------------------------------------------------------------------------


def hashes(path: Path, *parts: str) -> list[str]:
    """sha256 of what is read of some parts, for keys; none of what is not here yet (a dry run)."""
    if not path.exists():
        return []
    names = []
    for part in parts:
        files = sorted((path / part).iterdir())
        if part in PARTS:
            _, stem = PARTS[part]
            files = [f for f in files if f.suffix == ".safetensors" or f.suffix == ".json"]
            chosen = variant(path, part, stem)
            files = [f for f in files if _read(f.name, stem, chosen)]
        names += [file for file in files if file.is_file() and not file.name.startswith(".")]
    stats = [(file, file.stat()) for file in names]
    return [_hash(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]


def _read(name: str, stem: str, chosen: str | None) -> bool:
    match = checkpoint.names_of(stem).fullmatch(name)
    if match:
        return (match[1] or match[2]) == chosen
    return name == "config.json" or "-of-" in name


@cache
def _hash(file: Path, size: int, changed: int) -> str:
    """size, changed: what tells whether a file of gigabytes has to be read again."""
    return sha256(file)


def network(path: Path) -> "StableUNet":
    """The denoiser, without captions; float32."""
    from unrelearn.diffusion.stable import StableUNet

    return _loaded(path, "unet", lambda folder, v: denoiser.whole(StableUNet, folder, v))


def codec(path: Path) -> Codec:
    from diffusers import AutoencoderKL

    vae = _loaded(path, "vae", lambda folder, v: denoiser.whole(AutoencoderKL, folder, v))
    return Codec(vae)


def encoder(path: Path) -> Any:
    return _loaded(path, "text_encoder", clip.load_encoder)


def _loaded(path: Path, part: str, load: Callable[[Path, str | None], Any]) -> Any:
    """load: (folder, variant) -> network."""
    chosen = variant(path, part, PARTS[part][1])
    try:
        return load(path / part, chosen)
    except Exception as error:  # diffusers, transformers and safetensors each have their own
        why = " ".join(str(error).split())[:200]
        raise refused(path, f"{part}: {why}") from None


# ---- a folder of ours ----------------------------------------------------------------------------


def export(weights: Path, path: Path, folder: Path) -> None:
    """Write a whole folder that StableDiffusionPipeline reads: a denoiser of ours (`weights`), and
    the other parts of the folder that it was read from (`path`). No safety checker is among them.
    """
    import diffusers
    from transformers import CLIPTokenizer

    config = json.loads((path / "scheduler" / "scheduler_config.json").read_text())
    diffusers.StableDiffusionPipeline(
        unet=denoiser.whole(diffusers.UNet2DConditionModel, weights, None),
        vae=codec(path).vae,
        text_encoder=encoder(path),
        tokenizer=CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True),
        scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def export_changed(weights: Path, path: Path, file: Path) -> int:
    """Write those of a denoiser's weights that are not the checkpoint's, by diffusers' names; how
    many tensors these are.
    """
    from diffusers import UNet2DConditionModel

    ours = denoiser.whole(UNet2DConditionModel, weights, None).state_dict()
    theirs = network(path).state_dict()
    changed = {name: value for name, value in ours.items() if not value.equal(theirs[name])}
    save_file(changed, file, {"format": "pt"})
    return len(changed)
