"""A grid that shares its artefacts, as scripts/grid.py makes it, against running each of its cells
from scratch.

    python benchmarks/grid.py                            3 methods x attacks none and dimra, as in
                                                         the README's table
    python benchmarks/grid.py --attacks dimra few_shot   two attacks that both train
    python benchmarks/grid.py --digits --rounds 1        5 methods x 3 attacks, those of
                                                         experiment=grid/digits
    python benchmarks/grid.py --of outputs/grid-digits   full size, all seeds: the seconds of each
                                                         part of a grid that is there,
                                                         once, against the same parts again for
                                                         every cell that needs them

The first three take one seed (cells of several seeds share only classifiers), in one process, so
that imports count for neither, and a tenth of the default steps and images.
"""

import contextlib
import io
import json
import sys
import tempfile
from itertools import product
from pathlib import Path

from common import configuration, interleaved, report, stopwatch
from runs import Cell

from unrelearn import launch, progress
from unrelearn.grid.plan import Plan
from unrelearn.grid.work import Worker
from unrelearn.record import keep

TENTH = [
    "model.pretrain.max_steps=200",
    "unlearning.max_steps=10",
    "oracle.max_steps=50",
    "relearning.budgets=[0,3,5,10,20,40]",
    "sampler.num_images=50",
    "sampler.images_per_retained_class=5",
    "tracking=none",
]
DIGITS = (
    ("retrain", "row_swap", "random_label", "dimum", "dimum_cover"),
    ("none", "dimra", "few_shot"),
)


def shared(methods: list[str], attacks: list[str]) -> None:
    with tempfile.TemporaryDirectory() as outputs:
        plan = Plan.of(
            [
                *TENTH,
                f"method={','.join(methods)}",
                f"attack={','.join(attacks)}",
                f"paths.outputs={outputs}",
            ]
        )
        worker = Worker(plan.parts, plan.inventory, plan.folder, plan.configuration)
        lost = worker.work(list(plan.parts))
        assert not lost, lost


def parts_of(outputs: Path) -> tuple[float, float, int]:
    """(seconds of all parts, of the parts of each cell by itself, cells), as the parts' own records
    say.
    """
    cells = [
        json.loads(path.read_text())["stages"]
        for path in sorted((outputs / "runs").glob("*/result.json"))
    ]
    distinct = {part["key"]: part["seconds"] for cell in cells for part in cell}
    return (
        sum(distinct.values()),
        sum(part["seconds"] for cell in cells for part in cell),
        len(cells),
    )


def separate(methods: list[str], attacks: list[str]) -> None:
    for method, attack in product(methods, attacks):
        with tempfile.TemporaryDirectory() as outputs:
            words = [*TENTH, f"method={method}", f"attack={attack}", f"paths.outputs={outputs}"]
            cell = Cell(configuration(*words), "benchmark")
            keep(cell, cell.complete())


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--attacks", nargs="+", default=["none", "dimra"])
    parser.add_argument(
        "--digits", action="store_true", help="the methods and attacks of experiment=grid/digits"
    )
    parser.add_argument(
        "--of", type=Path, metavar="OUTPUTS", help="of a grid that was made, its parts' own seconds"
    )
    arguments = parser.parse_args()
    if arguments.of:
        once, again, cells = parts_of(arguments.of)
        report(
            "grid_digits_parts",
            [once],
            [again],
            "<= 0.3",
            what=f"{cells} cells, seconds of their parts",
        )
        sys.exit()
    methods, attacks = (
        DIGITS if arguments.digits else (("dimum", "random_label", "salun"), arguments.attacks)
    )
    progress.console.quiet = True
    with contextlib.redirect_stderr(io.StringIO()):
        seconds = interleaved(
            arguments.rounds,
            grid=lambda: stopwatch(lambda: shared(methods, attacks)),
            cells=lambda: stopwatch(lambda: separate(methods, attacks)),
        )
    report(
        "grid_digits" if arguments.digits else "grid_" + "_".join(attacks),
        seconds["grid"],
        seconds["cells"],
        "<= 0.3" if arguments.digits else "<= 0.35",
        what=f"{len(methods)} methods x {len(attacks)} attacks x 1 seed, a tenth of the steps",
    )
