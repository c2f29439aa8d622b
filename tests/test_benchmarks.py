"""Every script in benchmarks/ can be imported: none names what has moved."""

import sys
from pathlib import Path

import forked
from command import ROOT, environment

IMPORT_ALL = """
import importlib, pathlib, sys, traceback
sys.path.insert(0, "benchmarks")
broken = False
for path in sorted(pathlib.Path("benchmarks").glob("*.py")):
    try:
        importlib.import_module(path.stem)
    except Exception:
        broken = True
        traceback.print_exc()
sys.exit(broken)
"""


def test_every_benchmark_can_be_imported(tmp_path: Path):
    (tmp_path / "all.py").write_text(IMPORT_ALL)
    script = [sys.executable, str(tmp_path / "all.py")]
    done = forked.finish(script, cwd=ROOT, env=environment())
    assert done.returncode == 0, done.stderr
