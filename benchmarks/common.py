"""What the benchmarks share: interleaved measurement, medians, one JSON file of results beside the
command that made it.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir

from unrelearn.config import validate
from unrelearn.paths import CONF

RESULTS = Path(__file__).resolve().parent / "results"
sys.path.append(str(RESULTS.parents[1] / "tests"))  # where runs.py is


def configuration(*overrides: str) -> dict:
    """The validated configuration of `python run.py OVERRIDES`, without tracking."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return asdict(validate(compose("config", overrides=["tracking=none", *overrides])))


def interleaved(repeats: int, **contenders: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each contender, measured in turn, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats + 1):
        for name, run in contenders.items():
            value = run()
            if number:  # the first round warms up
                seconds[name].append(value)
                print(f"  round {number}: {name} {value:.4g} s", flush=True)
    return seconds


def stopwatch(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def report(
    name: str, ours: list[float], theirs: list[float], target: str, *, speedup: bool = False, **more
) -> None:
    """Print the median of the per-round ratios and keep everything in benchmarks/results/NAME.json.

    The ratio is ours / theirs (less is better), for a speedup theirs / ours (more is better).
    """
    ratios = [b / a if speedup else a / b for a, b in zip(ours, theirs, strict=True)]
    result = {
        "ratio": round(statistics.median(ratios), 3),
        "target": target,
        "ratios": [round(r, 3) for r in ratios],
        "ours_seconds": ours,
        "theirs_seconds": theirs,
        **more,
    }
    keep(name, result)
    of = "theirs / ours" if speedup else "ours / theirs"
    print(f"{name}: {of} = {result['ratio']} (target {target}), rounds {result['ratios']}")


def keep(name: str, result: dict) -> None:
    """Write benchmarks/results/NAME.json: what was measured, by which command, where."""
    whole = {
        **result,
        "command": " ".join(["python", *sys.argv]),
        "machine": {
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "device": (
                torch.cuda.get_device_name()
                if torch.cuda.is_available()
                else platform.machine() + " CPU"
            ),
        },
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
