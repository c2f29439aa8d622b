"""A grid of 3 methods x 2 attacks x 1 seed that shares its artefacts, against running each of the 6 cells from scratch.

    python benchmarks/grid.py                           attacks none and dimra, as in the README's table
    python benchmarks/grid.py --attacks dimra few_shot  two attacks that both train

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

TENTH = ["model.pretrain.max_steps=200", "method.max_steps=10", "oracle.max_steps=50",
         "sampler.num_images=50", "sampler.images_per_retained_class=5"]
METHODS = ("dimum", "random_label", "salun")


def cell(method: str, attack: str, outputs: str) -> None:
    overrides = [f"method={method}", f"attack={attack}", "relearning.budgets=[0,3,5,10,20,40]", f"paths.outputs={outputs}"]
    Pipeline(configuration(*TENTH, *overrides), "benchmark").run()


def shared(attacks: list[str]) -> None:
    with tempfile.TemporaryDirectory() as outputs:
        for method, attack in product(METHODS, attacks):
            cell(method, attack, outputs)


def separate(attacks: list[str]) -> None:
    for method, attack in product(METHODS, attacks):
        with tempfile.TemporaryDirectory() as outputs:
            cell(method, attack, outputs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attacks", nargs=2, default=["none", "dimra"])
    arguments = parser.parse_args()
    progress.console.quiet = True
    with contextlib.redirect_stderr(io.StringIO()):
        seconds = interleaved(arguments.rounds, grid=lambda: stopwatch(lambda: shared(arguments.attacks)),
                              cells=lambda: stopwatch(lambda: separate(arguments.attacks)))
    report("grid_" + "_".join(arguments.attacks), seconds["grid"], seconds["cells"], "<= 0.35",
           what="3 methods x 2 attacks x 1 seed, a tenth of the steps")
