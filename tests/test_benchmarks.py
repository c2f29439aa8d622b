"""Every script in benchmarks/ can be imported: none names what has moved."""

import subprocess
import sys

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


def test_every_benchmark_can_be_imported():
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
