"""Which kinds of GPU the jobs of a grid may come to, as sbatch is asked and sinfo says."""

import argparse
import re
import shlex

COUNTS = ("--gpus", "--gpus-per-node", "--gpus-per-task", "--gpus-per-socket")
NONE = "no GPU"


def kinds(options: str, shown: str) -> set[str]:
    """The kinds of GPU of all nodes that a job may come to; empty if it can not be told.

    Args:
        options: of sbatch.
        shown: what sinfo --format=%P|%G prints: a line for each kind of node of a partition, and *
            behind the name of that which is taken where none is named.
    """
    asked = _asked(options)
    if asked.constraint or asked.nodelist or asked.exclude:  # nodes, or features, by their names
        return set()
    counts = [value for name in COUNTS if (value := getattr(asked, name[2:].replace("-", "_")))]
    generic = asked.gres or ""
    named = {count.rpartition(":")[0] for count in counts} - {""}
    named |= set(re.findall(r"gpu:([A-Za-z][^:,]*)", generic))
    if named:
        return {name.lower() for name in named}
    wanted = set(filter(None, (asked.partition or "").split(",")))
    there = set()
    for line in shown.splitlines():
        name, _, gres = line.strip().partition("|")
        if name.rstrip("*") in wanted or (not wanted and name.endswith("*")):
            gpus = re.findall(r"gpu:(?:([A-Za-z][^:,(]*)|\d)", gres)
            there |= {(kind or "gpu").lower() for kind in gpus} or {NONE}
    if counts or "gpu" in generic:
        return there - {NONE}
    # who asks for none where some nodes have none is given none on the others
    return {NONE} if NONE in there else there


def _asked(options: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    names = [["-p", "--partition"], ["-C", "--constraint"], ["-G", COUNTS[0]], ["--gres"]]
    names += [["-w", "--nodelist"], ["-x", "--exclude"]]
    for each in (*names, *([name] for name in COUNTS[1:])):
        parser.add_argument(*each, nargs="?")  # what lacks a value, sbatch refuses
    return parser.parse_known_args(shlex.split(options))[0]
