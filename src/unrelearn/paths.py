"""Where the files lie that belong to a checkout and not to the package: conf/ and scripts/."""

import os
import sys
from pathlib import Path

from unrelearn.errors import UsageError

VARIABLE = "UNRELEARN_ROOT"  # tells the processes that a run starts, whose program is another one


def given(text: str) -> Path:
    """A path of a script's command line: ~ is the home folder, also behind = where a shell lets it
    stand.
    """
    return Path(os.path.expanduser(text))


def find(candidates: list[Path]) -> Path | None:
    """The first folder that holds our conf/; a config.yaml alone may be of anybody's project."""
    files = ("config.yaml", "attack/none.yaml", "protocol/fast.yaml")
    ours = (f for f in candidates if all((f / "conf" / name).is_file() for name in files))
    return next(ours, None)


def candidates() -> list[Path]:
    """Beside run.py, or above scripts/grid.py, as the user may have edited conf/ there; then where
    the package lies in src/.
    """
    program = getattr(sys.modules["__main__"], "__file__", None)  # an interactive session has none
    beside = list(Path(program).resolve().parents[:2]) if program else []
    told = [Path(os.environ[VARIABLE])] if os.environ.get(VARIABLE) else []
    return [*beside, *told, Path(__file__).resolve().parents[2]]


def check() -> None:
    """
    Raises:
        UsageError: there is no configuration; said before anything is computed.
    """
    if find(candidates()) is None:
        raise UsageError(
            f"conf/: not found in {ROOT}; the package holds no configuration of its own, so run.py,"
            " conf/ and scripts/ belong together. Type python FOLDER/run.py, where FOLDER is a"
            f" checkout, or export {VARIABLE}=FOLDER"
        )


_tried = candidates()
ROOT = find(_tried) or _tried[0]
CONF = ROOT / "conf"
if find([ROOT]):
    os.environ[VARIABLE] = str(ROOT)
