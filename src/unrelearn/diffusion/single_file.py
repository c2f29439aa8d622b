"""Stable Diffusion in one file, by the names of the original code (Rombach et al. 2022, arXiv
2112.10752), as a folder that `pipelines` reads. Names and shapes are compared before a weight is
read, and nothing that a pickle asks for is run.
"""

import gzip
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from unrelearn.diffusion.pipelines import PARTS, TOKENS
from unrelearn.errors import UsageError

CONFIGS = Path(__file__).parent / "stable_configs"  # of each kind the small files, the index last
PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.",
}
# what lies beside the weights: averages, the schedule, numbers of places; of OpenCLIP the last
# layer, which Stable Diffusion 2 does not use, and what compares a text with images
BESIDE = re.compile(
    r"model_ema\..*|\w*(alphas|betas)\w*|posterior_\w+|scale_factor|logvar|lvlb_weights"
    r"|.*\.position_ids|cond_stage_model\.(logit_scale|model\.(logit_scale|attn_mask"
    r"|text_projection|transformer\.resblocks\.23\..*))"
)
DTYPES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
}
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"  # in packages with CLIP's tokenizer


class Stored(NamedTuple):
    """A tensor in a file."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


def unpack(file: Path, folder: Path, tokenizer: str = "open_clip", like: str | None = None) -> str:
    """Write the folder; the kind of Stable Diffusion that it is.

    Args:
        tokenizer: a folder with its words, or a package.
        like: the kind, which shapes do not always tell.
    Raises:
        UsageError: one line.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder}: is not an empty folder. Type the name of a new one")
    tensors = {name: t for name, t in stored(file).items() if not BESIDE.fullmatch(name)}
    kind, configs = _kind(file, tensors, like)
    if why := _misfit(tensors, configs):
        raise UsageError(f"{file}: is no Stable Diffusion {kind} ({why}). Type another file")
    files = words(tokenizer, configs["text_encoder/config.json"]["vocab_size"])
    files |= {name: json.dumps(config, indent=2) for name, config in configs.items()}
    for part, prefix in PREFIXES.items():
        weights = {name: t.read() for name, t in tensors.items() if name.startswith(prefix)}
        state = _converted(part, configs, weights)
        (folder / part).mkdir(parents=True)
        whole = folder / part / f"{PARTS[part][1]}.safetensors"
        save_file({name: w.contiguous() for name, w in state.items()}, whole, {"format": "pt"})
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return kind


# ---- what a file holds ---------------------------------------------------------------------------


def stored(file: Path) -> dict[str, Stored]:
    """Its tensors by name.

    Raises:
        UsageError: it can not be read.
    """
    try:
        if file.suffix == ".safetensors":
            return _safe(file)
        content = _Unpickler(zipfile.ZipFile(file)).load()
        weights = content.get("state_dict", content)
        return {str(name): t for name, t in weights.items() if isinstance(t, Stored)}
    except Exception as error:  # a pickle can hold anything
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        formats = "a whole .safetensors, or .ckpt as torch 1.6 and later write it"
        raise UsageError(f"{file}: can not be read ({why}). Type {formats}") from None


def _safe(file: Path) -> dict[str, Stored]:
    weights = safe_open(file, "pt")
    names = list(weights.keys())
    shapes = [tuple(weights.get_slice(name).get_shape()) for name in names]
    reads = [partial(weights.get_tensor, name) for name in names]
    return dict(zip(names, map(Stored, shapes, reads), strict=True))


class _Inert:
    """In place of whatever else a pickle names: nothing that it is given does anything."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "_Inert":
        return super().__new__(cls)

    def nothing(self, *args: Any, **kwargs: Any) -> "_Inert":
        return self

    __call__ = __setstate__ = __setitem__ = append = extend = add = nothing


class _Unpickler(pickle.Unpickler):
    """Of a file of torch.save: tensors as `Stored`, containers, numbers and texts."""

    def __init__(self, archive: zipfile.ZipFile):
        (name,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        self.archive, self.data = archive, name.removesuffix(".pkl")
        super().__init__(archive.open(name), encoding="utf-8")

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
        }
        return {**allowed, **DTYPES}.get(f"{module}.{name}", _Inert)

    def persistent_load(self, pid: Any) -> tuple[Any, str]:
        """("storage", its type, its file, ...) -> (dtype, its file)."""
        return pid[1], pid[2]

    def _tensor(self, storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Stored | None:
        if not isinstance(storage[0], torch.dtype):  # numbers of steps and places
            return None

        def read() -> Tensor:
            dtype, name = storage
            content = bytearray(self.archive.read(f"{self.data}/{name}"))
            return torch.frombuffer(content, dtype=dtype).as_strided(size, stride, offset)

        return Stored(tuple(size), read)


# ---- what it is ----------------------------------------------------------------------------------


def _kind(file: Path, tensors: dict[str, Stored], like: str | None) -> tuple[str, dict[str, Any]]:
    """Its name, and its small files by their paths."""
    if any(name.startswith("conditioner.") for name in tensors):
        raise UsageError(f"{file}: is of Stable Diffusion XL. Type a file of 1.x or 2.x")
    for part, prefix in PREFIXES.items():
        if not any(name.startswith(prefix) for name in tensors):
            why = f"holds no {prefix}*, which is the {part} in the original layout"
            raise UsageError(f"{file}: {why}. Type a file with unet, vae and text encoder")
    paths = sorted(CONFIGS.glob("*.json"), key=lambda path: path.stem)
    kinds = {path.stem: json.loads(path.read_text()) for path in paths}
    widths = {kind: of["unet/config.json"]["cross_attention_dim"] for kind, of in kinds.items()}
    keys = (t for name, t in tensors.items() if name.endswith("attn2.to_k.weight"))
    width = max((t.shape[-1] for t in keys), default=0)
    fitting = [kind for kind in kinds if widths[kind] == width]
    if not fitting:
        known = " or ".join(map(str, sorted({*widths.values()})))
        why = f"its unet reads states of {width} numbers, and not of {known}"
        raise UsageError(f"{file}: {why}. Type a file of Stable Diffusion 1.x or 2.x")
    if like not in fitting and (like or fitting[1:]):
        shapes = f"{file} has the shapes of {' and '.join(fitting)}"
        given = f"--like {like}" if like else "--like"
        raise UsageError(f"{given}: {shapes}. Type --like {' or --like '.join(fitting)}")
    return (kind := like or fitting[0]), kinds[kind]


def _misfit(tensors: dict[str, Stored], configs: dict[str, Any]) -> str | None:
    """Which tensor has no place, or which place no tensor: numbers stand for tensors."""
    names, placed, missing = list(tensors), set(), []
    for part, prefix in PREFIXES.items():
        numbers = {
            name: torch.tensor(number, dtype=torch.int32).expand(tensors[name].shape)
            for number, name in enumerate(names)
            if name.startswith(prefix)
        }
        shapes, state = _shapes(part, configs), _converted(part, configs, numbers)
        fits = {name: value for name, value in state.items() if shapes.get(name) == value.shape}
        placed |= {names[int(value[(0,) * value.ndim])] for value in fits.values()}
        missing += [f"{part} {name}" for name in shapes if name not in fits]
    left = [f"{name} of shape {list(t.shape)}" for name, t in tensors.items() if name not in placed]
    for what, several in (("it has no place for", left), ("the file lacks", missing)):
        if several:
            return f"{what} {several[0]}" + (f" and {len(several) - 1} more" * bool(several[1:]))
    return None


def _shapes(part: str, configs: dict[str, Any]) -> dict[str, torch.Size]:
    """Of the weights of a part; none is made."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    config = configs[f"{part}/config.json"]
    with torch.device("meta"):
        if part != "text_encoder":
            weights = getattr(diffusers, PARTS[part][0]).from_config(config).state_dict()
            return {name: value.shape for name, value in weights.items()}
        weights = CLIPTextModel(CLIPTextConfig(**config)).state_dict()
    # newer versions of transformers leave the prefix out in memory, and none in files
    bare = {name.removeprefix("text_model."): value.shape for name, value in weights.items()}
    return {f"text_model.{name}": shape for name, shape in bare.items()}


def _converted(part: str, configs: dict[str, Any], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the names of diffusers and transformers."""
    from diffusers.loaders import single_file_utils as names

    config = configs[f"{part}/config.json"]
    if part == "unet":
        return names.convert_ldm_unet_checkpoint(weights, config)
    if part == "vae":
        return names.convert_ldm_vae_checkpoint(weights, config)
    if any(name.startswith("cond_stage_model.model.") for name in weights):
        width = config["hidden_size"]  # which older versions of diffusers take from another key
        encoder = SimpleNamespace(hidden_size=width, projection_dim=width)
        return names.convert_open_clip_checkpoint(SimpleNamespace(config=encoder), weights)
    return names.convert_ldm_clip_checkpoint(weights)


# ---- its words -----------------------------------------------------------------------------------


def words(source: str, count: int) -> dict[str, str]:
    """The files of a tokenizer, by their paths.

    Args:
        source: a folder, or a package.
        count: words that the text encoder knows.
    Raises:
        UsageError: there are none, or others.
    """
    spec = find_spec(source) if source.isidentifier() else None
    places = [source, *((spec and spec.submodule_search_locations) or ())]
    files = next(filter(None, (_words_in(Path(place).expanduser()) for place in places)), {})
    if "vocab.json" in files:
        known = len(json.loads(files["vocab.json"]))
    else:
        known = len(json.loads(files["tokenizer.json"])["model"]["vocab"]) if files else 0
    if known != count:
        why = f"has {known:,} words of a tokenizer, and the text encoder knows {count:,}"
        fix = "pip install open_clip_torch, or --tokenizer FOLDER with vocab.json and merges.txt"
        raise UsageError(f"--tokenizer {source}: {why}. Type {fix}")
    return {f"tokenizer/{name}": text for name, text in files.items()}


def _words_in(folder: Path) -> dict[str, str]:
    for names in TOKENS:
        if all((folder / name).is_file() for name in names):
            return {name: (folder / name).read_text(encoding="utf-8") for name in sorted(names)}
    return clip_words(folder / VOCABULARY) if (folder / VOCABULARY).is_file() else {}


def clip_words(file: Path) -> dict[str, str]:
    """vocab.json and merges.txt of CLIP (Radford et al. 2021, arXiv 2103.00020) from its list of
    merges: 256 bytes, these at the end of a word, merges, start and end.
    """
    merges = gzip.decompress(file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    printed = [*range(33, 127), *range(161, 173), *range(174, 256)]
    symbols = [chr(code) for code in (*printed, *range(256, 512 - len(printed)))]
    known = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    known += [*("".join(merge.split()) for merge in merges), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(known)}
    lines = ["#version: 0.2", *merges, ""]
    return {"vocab.json": json.dumps(vocabulary), "merges.txt": "\n".join(lines)}
