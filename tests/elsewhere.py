"""Models by a script that knows nothing of us (examples/audit_a_model)."""

import runpy
import sys
from pathlib import Path

from command import ROOT

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
