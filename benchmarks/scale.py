"""How planning and the store grow: a grid of 100,000 runs, and a store of a million artefacts.

    python benchmarks/scale.py [--runs 100000] [--artifacts 1000000]

Planned as scripts/grid.py plans: every method under every attack, ten classes, as many seeds as it
takes. The store's artefacts are folders with a manifest; what is timed is to ask for one that is
there, for one that is not, to look at all of them as a plan does, and `scripts/gc.py` without
--yes. Results: benchmarks/results/scale.json.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import RESULTS

from unrelearn import launch
from unrelearn.artifact import MANIFEST, Spec, Store
from unrelearn.config import kinds
from unrelearn.grid.parts import Inventory
from unrelearn.grid.plan import Plan
from unrelearn.slurm import waves

ROOT = Path(__file__).resolve().parents[1]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(action) -> tuple[float, object]:
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def planning(runs: int) -> dict:
    methods = ",".join(kinds.options("method", kinds.kind_typed([]).batches))
    attacks = ",".join(kinds.every_attack_of([]))
    per_seed = len(methods.split(",")) * len(attacks.split(",")) * 10
    seeds = ",".join(map(str, range(-(-runs // per_seed))))
    before = peak_mib()
    with tempfile.TemporaryDirectory() as outputs:
        seconds, plan = timed(
            lambda: Plan.of(
                [
                    f"method={methods}",
                    f"attack={attacks}",
                    "forget=0,1,2,3,4,5,6,7,8,9",
                    f"seed={seeds}",
                    "tracking=none",
                    f"paths.outputs={outputs}",
                ]
            )
        )
        settling, missing = timed(plan.missing)
        packing, packs = timed(lambda: waves(missing, plan.seconds(), 7200, 1000))
    return {
        "runs": len(plan.cells),
        "parts": len(plan.parts),
        "plan_seconds": round(seconds, 1),
        "settle_seconds": round(settling, 1),
        "pack_seconds": round(packing, 1),
        "jobs": sum(map(len, packs)),
        "peak_mib": round(peak_mib()),
        "peak_mib_before": round(before),
    }


def storing(number: int) -> dict:
    with tempfile.TemporaryDirectory() as outputs:
        root = Path(outputs) / "artifacts"
        specs = [Spec("attack", 1, {"number": i}) for i in range(1000)]
        folder = root / "attack"
        folder.mkdir(parents=True)
        for i in range(number):
            key = specs[i].key if i < len(specs) else f"{i:016x}"
            (folder / key).mkdir()
            if i < len(specs):
                (folder / key / MANIFEST).write_text(
                    json.dumps(
                        {
                            "key": key,
                            "files": {},
                            "parents": [],
                            "meta": {"status": "finished", "seconds": 1.0},
                        }
                    )
                )
        chosen = random.Random(0).sample(specs, 200)
        absent = [Spec("attack", 1, {"absent": i}) for i in range(200)]
        there, artifacts = timed(lambda: [Store(root).find(spec) for spec in chosen])
        assert all(artifacts)
        missing, none = timed(lambda: [Store(root).find(spec) for spec in absent])
        assert not any(none)
        inventory = Inventory(Path(outputs))
        listing, _ = timed(inventory.list)
        (Path(outputs) / "runs").mkdir()
        clearing, _ = timed(
            lambda: subprocess.run(
                [sys.executable, "scripts/gc.py", outputs],
                cwd=ROOT,
                check=True,
                capture_output=True,
            )
        )
    return {
        "artifacts": number,
        "find_there_ms": round(1e3 * there / 200, 3),
        "find_missing_ms": round(1e3 * missing / 200, 3),
        "list_seconds": round(listing, 2),
        "gc_dry_run_seconds": round(clearing, 1),
    }


if __name__ == "__main__":
    parser = launch.parser(__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--artifacts", type=int, default=1_000_000)
    options = parser.parse_args()
    result = {"planning": planning(options.runs)}
    print(result["planning"], flush=True)
    result["store"] = storing(options.artifacts)
    print(result["store"])
    result |= {"command": " ".join(["python", *sys.argv]), "machine": {"cores": os.cpu_count()}}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(result, indent=1) + "\n")
