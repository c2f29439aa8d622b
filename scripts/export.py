"""Write one model of a finished run as a folder of diffusers with a model card, for the Hugging
Face hub or for anybody: weights, schedule, protocol, numbers with intervals, command, hashes.
"""

import argparse
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCardData, get_token

from unrelearn import hub, launch
from unrelearn.artifact import sha256
from unrelearn.errors import UsageError
from unrelearn.paths import given
from unrelearn.report.files import write_atomically
from unrelearn.report.records import (
    MODELS,
    QUALITY,
    Record,
    interval,
    measured,
    number,
    read_record,
    retained_guidance,
    row_of,
    rows_of,
)
from unrelearn.report.render import markdown
from unrelearn.report.words import (
    attacked_by,
    budget_words,
    display_name,
    forgotten,
    guidance_label,
    protocol_name,
    quality_text,
    sentence,
)
from unrelearn.stages.train import snapshot

EXAMPLES = """
examples:
  python scripts/export.py outputs/runs/digits-dimum-none-forget7-seed0-1a2b3c4d exported
  python scripts/export.py outputs/runs/digits-dimum-dimra-... exported --model attacked --at 400
  python scripts/export.py outputs/runs/digits-dimum-none-... exported --push me/digits-without-7
"""
MEASURED = {
    "concept_accuracy": "Concept accuracy",
    "forget_accuracy": "Forget accuracy",
    "retain_accuracy": "Retained accuracy",
}
TASK = "unconditional-image-generation"  # the nearest that the hub has a name for


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = launch.parser(__doc__, EXAMPLES)
    parser.add_argument("run", type=given, metavar="RUN", help="its folder, or its result.json")
    parser.add_argument("folder", type=given, metavar="FOLDER", help="new, or empty")
    parser.add_argument("--model", choices=MODELS, default="unlearned")
    parser.add_argument("--at", type=float, help="budget or level of an attacked model: the last")
    parser.add_argument(
        "--partial", action="store_true", help="of Stable Diffusion, only the weights that changed"
    )
    parser.add_argument(
        "--license", metavar="ID", help="of these weights, as the hub calls it: mit, cc-by-4.0"
    )
    parser.add_argument("--push", metavar="USER/NAME", help="also to the hub, for all to see")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    file = options.run / "result.json" if options.run.is_dir() else options.run
    try:
        record = read_record(file)
        row = chosen(record, options.model, options.at)
        weights = weights_of(row, file.resolve().parents[2])
    except (ValueError, OSError) as error:
        return launch.complain([f"{options.run}: {error}"])
    folder = options.folder
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        why = "is not empty" if folder.is_dir() else "is no folder"
        return launch.complain([f"{folder}: {why}. Name a new folder"])
    if options.push and (why := not_pushed(options.push)):
        return launch.complain([f"--push {options.push}: {why}. Nothing was written"])
    try:
        write(weights, options.folder, record, partial=options.partial)
    except (ValueError, UsageError) as error:
        return launch.complain([f"{options.run}: {error}"])
    card = model_card(record, row, options.folder, options.license)
    write_atomically(options.folder / "README.md", card)
    for file in options.folder.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors makes files that nobody else may read
    print(f"{options.folder}: {options.model} model of {record['name']}")
    return push(options.folder, options.push) if options.push else 0


def write(weights: Path, folder: Path, record: Record, *, partial: bool) -> None:
    """The network; of Stable Diffusion the whole pipeline, or only the weights that changed.

    Raises:
        ValueError: partial, of another model.
        UsageError: the folder that it was read from is not what it was.
    """
    if not stable(record):
        if partial:
            raise ValueError("--partial is for model=stable_diffusion")
        shutil.copytree(weights, folder, dirs_exist_ok=True)
        return
    from unrelearn.diffusion import pipelines

    theirs = Path(record["config"]["model"]["checkpoint"])
    if problems := pipelines.broken(theirs):
        raise UsageError(problems)
    if partial:
        folder.mkdir(parents=True, exist_ok=True)
        pipelines.export_changed(weights, theirs, folder / "changed.safetensors")
    else:
        pipelines.export(weights, theirs, folder)


def stable(record: Record) -> bool:
    return bool(record["config"]["model"].get("latent"))


def chosen(record: Record, model: str, at: float | None) -> dict[str, Any]:
    """The row of the model.

    Raises:
        ValueError: there is none.
    """
    if at is None:
        row = row_of(record, model)
    else:
        row = next((r for r in rows_of(record, model) if r["step"] == at), None)
    if row is None or row["status"] != "finished":
        steps = [f"{r['step']:g}" for r in rows_of(record, "attacked")]
        raise ValueError(
            f"it has no {model} model"
            + (f" at {at:g}" if at is not None else "")
            + (f"; attacked ones: --model attacked --at {' or '.join(steps)}" if steps else "")
        )
    return row


def weights_of(row: dict[str, Any], outputs: Path) -> Path:
    """The folder of a row's weights.

    Raises:
        ValueError: it is not on this disk, or no denoiser's.
    """
    stage, _, label = row["weights"].rstrip(")").partition(" (")
    place = snapshot(row["step"]) if row["step"] is not None else ""
    folder = outputs / "artifacts" / stage / place / label
    if not (folder / "config.json").is_file():
        raise ValueError(f"the weights of a denoiser are not in {folder}")
    return folder


# ---- the card ------------------------------------------------------------------------------------


def model_card(
    record: Record, row: dict[str, Any], folder: Path, licence: str | None = None
) -> str:
    """README.md: front matter that the hub reads, and the same for people."""
    title = about(record, row)
    of = TASK, record["dataset"], record["dataset"]
    shares = [EvalResult(*of, m, ends[0], metric_name=name) for m, name, ends in numbers(row)]
    data = ModelCardData(
        library_name="diffusers",
        tags=["machine-unlearning", "unrelearn", record["method"], f"model:{row['model']}"],
        model_name=record["name"],
        eval_results=shares or None,
        license=licence,
    )
    lines = [
        "---",
        data.to_yaml(),
        "---",
        "",
        f"# {markdown(title)}",
        "",
        made_of(record),
        "",
        *drawing(folder),
        *WARNING[row["model"]],
        "",
        f"Protocol `{protocol_name(record)}`, seed {record['seed']}. Shares of generated images,"
        " with 95 % intervals over the images of this one model:",
        "",
        "| measured | share | 95 % interval |",
        "| --- | ---: | ---: |",
    ]
    for _, name, (value, low, high) in numbers(row):
        lines.append(f"| {name} | {100 * value:.1f} % | {100 * low:.1f} to {100 * high:.1f} % |")
    lines += distances(record, row)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    hashes = [
        f"{sha256(file)}  {file.relative_to(folder).as_posix()}"
        for file in files
        if file != folder / "README.md"
    ]
    command = without_folders(record.get("command") or "")
    lines += ["", "```", command, "```", "", "sha256:", "", "```", *hashes]
    return "\n".join([*lines, "```", ""])


def without_folders(command: str) -> str:
    """A command line without where its files lay on the computer on which it ran."""
    return re.sub(r"=/(?:[^\s'/]+/)*([^\s'/]+)/?(?=[\s']|$)", r"=\1", command)


def drawing(folder: Path) -> list[str]:
    """How diffusers alone draws images with it; nothing of a network that diffusers lacks."""
    config = folder / "config.json"
    if not config.exists() or json.loads(config.read_text()).get("_class_name") != "UNet2DModel":
        return []
    return ["```python", DRAWING.strip(), "```", ""]


DRAWING = """
import torch
from diffusers import DDIMScheduler, UNet2DModel

folder = "."  # this one
unet = UNet2DModel.from_pretrained(folder)
scheduler = DDIMScheduler.from_pretrained(folder, timestep_spacing="trailing")
scheduler.set_timesteps(10)
labels = torch.tensor([0, 1, 2, 3])
x = torch.randn(4, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
with torch.no_grad():
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, class_labels=labels).sample, t, x).prev_sample
images = ((x.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)  # N, channels, height, width
"""


def distances(record: Record, row: dict[str, Any]) -> list[str]:
    """A line for each that was measured on the retained classes, beside what real images get."""
    guidance, lines = retained_guidance(record), []
    for quality in QUALITY:
        value = measured(row, quality.metric, guidance) or {}
        if (share := number(value, quality.field)) is None:
            continue
        about = [f"{value['n']} images"] if value.get("n") else []
        beside = number(value, quality.beside) if quality.beside else None
        if beside is not None:
            about.append(f"{quality.beside} {quality_text(beside, quality)}")
        words = f" ({', '.join(about)})" if about else ""
        lines.append(f"- {quality.label}: {quality_text(share, quality)}{words}")
    head = f"Quality of retained classes, guidance {guidance_label(guidance)}:"
    return ["", head, "", *lines] if lines else []


def made_of(record: Record) -> str:
    names = markdown(", ".join(map(str, record["class_names"])))
    if stable(record):
        caption = record["config"]["model"]["latent"]["caption"]
        return (
            f"Made by `unrelearn` of a Stable Diffusion, whose licence holds for it too. Captions"
            f' were "{caption}" with {names}.'
        )
    count = len(record["class_names"])
    null = "is no class"
    if record["config"]["method"].get("null_label") == "none":
        null = "is not to be asked for: the network that was given has no label for no class"
    return (
        f"Made by `unrelearn`. Labels 0 to {count - 1} are {names}; label {count} {null}."
        " Images are in [-1, 1]."
    )


WARNING = {
    "original": ["Nothing was unlearned here."],
    "unlearned": [
        "That a class is not drawn does not show that it is gone: attack it before you rely on it."
        " No guarantee of any kind is given for single training images."
    ],
    "attacked": ["An attack was run on these weights, to see what comes back: use them for that."],
}


def about(record: Record, row: dict[str, Any]) -> str:
    """``DiMUM on class 7 of digits, attacked by DiMRA: 400 steps``."""
    what = f"{forgotten(record)} of {record['dataset']}"
    if row["model"] == "original":
        return f"Original model of {record['dataset']}"
    title = sentence(f"{display_name(record['method'])} on {what}")
    if row["model"] == "attacked":
        title += f", {attacked_by(record['attack'])}: {budget_words(record, row['step'])}"
    return title


def numbers(row: dict[str, Any]) -> list[tuple[str, str, tuple[float, float, float]]]:
    """(metric, its name with the guidance, its value and interval)."""
    values = []
    for metric, name in MEASURED.items():
        for guidance, value in (row["metrics"].get(metric) or {}).items():
            if ends := interval(value):
                values.append((metric, f"{name}, guidance {guidance_label(guidance)}", ends))
    return values


def not_pushed(name: str) -> str | None:
    """Why nothing can be sent there, as far as this machine knows, and what to type."""
    if not hub.ID.fullmatch(name):
        return "is no repository of the hub. Type --push USER/NAME"
    if get_token() is None:
        return "nobody is logged in at the hub. Type hf auth login, and then the same command"
    return None


def push(folder: Path, name: str) -> int:
    """Send the folder to the hub, as whoever is logged in there."""
    again = f"hf upload {name} {shlex.quote(str(folder))}"
    try:
        api = HfApi()
        api.create_repo(name, exist_ok=True)
        print(api.upload_folder(repo_id=name, folder_path=folder))
        return 0
    except Exception as error:  # of the hub or of http
        why = " ".join(str(error).split())[:200] or type(error).__name__
        return launch.complain([f"--push {name}: {why}. The folder is there: type {again}"])


if __name__ == "__main__":
    launch.script(main)
