"""Models by a script that knows nothing of us (examples/audit_a_model)."""

import json
import runpy
import shutil
import sys
from pathlib import Path

from command import ROOT
from safetensors.torch import load_file, save_file

FILE = "diffusion_pytorch_model.safetensors"
TABLE = "class_embedding.weight"

SCRIPT = ROOT / "examples" / "audit_a_model" / "make.py"


def made_elsewhere(folder: Path, *options: str) -> Path:
    """The folder, in which the script has written original/, theirs/ and images/; if it is there
    already, as it is.
    """
    if (folder / "theirs").exists():
        return folder
    typed, sys.argv = sys.argv, [str(SCRIPT), str(folder), *options]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = typed
    return folder


def with_rows(folder: Path, copy: Path, rows: list[int]) -> Path:
    """A copy whose class table has these rows."""
    shutil.copytree(folder, copy)
    state = load_file(copy / FILE)
    state[TABLE] = state[TABLE][rows].clone()
    save_file(state, copy / FILE, metadata={"format": "pt"})
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_class_embeds": len(rows)}))
    return copy
