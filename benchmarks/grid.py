"""A grid of 3 methods x 2 attacks x 1 seed that shares its artefacts, against running each of the 6 cells from scratch.

    python benchmarks/grid.py

Both in one process, so that imports count for neither; steps and images are a tenth of the defaults, in proportion.
"""

import argparse
import contextlib
import io
import tempfile
from itertools import product

from common import configuration, interleaved, report, stopwatch

from unrelearn import progress
from unrelearn.pipeline import Pipeline

TENTH = ["model.pretrain.max_steps=200", "method.max_steps=10", "attack.batch_size=64", "oracle.max_steps=50",
         "sampler.num_images=50", "sampler.images_per_retained_class=5"]
CELLS = list(product(("dimum", "random_label", "salun"), ("dimra", "few_shot")))


def cell(method: str, attack: str, outputs: str) -> None:
    overrides = [f"method={method}", f"attack={attack}", "attack.budgets=[0,3,5,10,20,40]", f"paths.outputs={outputs}"]
    Pipeline(configuration(*TENTH, *overrides), "benchmark").run()


def shared() -> None:
    with tempfile.TemporaryDirectory() as outputs:
        for method, attack in CELLS:
            cell(method, attack, outputs)


def separate() -> None:
    for method, attack in CELLS:
        with tempfile.TemporaryDirectory() as outputs:
            cell(method, attack, outputs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    progress.console.quiet = True
    with contextlib.redirect_stderr(io.StringIO()):
        seconds = interleaved(arguments.rounds, grid=lambda: stopwatch(shared), cells=lambda: stopwatch(separate))
    report("grid", seconds["grid"], seconds["cells"], "<= 0.35", what="3 methods x 2 attacks x 1 seed, a tenth of the steps")
