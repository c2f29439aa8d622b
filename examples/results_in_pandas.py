"""Results as a table of pandas: forget accuracy at the end of each attack, methods against attacks.

python scripts/report.py
python examples/results_in_pandas.py [outputs/report/compare/results.csv] [--figure recovery.png]
"""

import argparse
from pathlib import Path

import pandas as pd

CELL = ["table", "method", "attack", "guidance"]


def recovery(lines: pd.DataFrame) -> pd.DataFrame:
    """Percent. Rows are methods, columns attacks at each guidance scale; one block for each value
    of `table`, as numbers of two tables must not be averaged.
    """
    ends = lines[(lines["model"] == "attacked") & lines["last"]]
    ends = ends[ends["measurement"] == "forget_accuracy"]
    seeds = ends.groupby([*CELL, "seed"])["value"].mean()  # over the attack's own seeds first
    return 100 * seeds.groupby(CELL).mean().unstack(["attack", "guidance"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path("outputs/report/compare/results.csv")
    parser.add_argument("results", nargs="?", type=Path, default=default)
    parser.add_argument("--figure", type=Path, help="also a picture of the same table")
    options = parser.parse_args()
    table = recovery(pd.read_csv(options.results))
    for title, block in table.groupby(level="table"):
        print(title, block.droplevel("table").round(1).to_string(), sep="\n")
    if options.figure:
        axes = table.droplevel("table").plot.barh(xlabel="forget accuracy after the attack, %")
        axes.figure.savefig(options.figure, bbox_inches="tight")


if __name__ == "__main__":
    main()
