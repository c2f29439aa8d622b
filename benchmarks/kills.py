"""`kill -9` at ten random moments of the full-size command, then the same command: are the weights
those of an undisturbed run?

    python benchmarks/kills.py

Counts trials and survivals: every artefact finished before a kill must still be there untouched,
and at the end every weight file must equal the undisturbed run's to the bit. Results in
benchmarks/results/kills.json.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "kills.json"
ROOT = Path(__file__).resolve().parents[1]


def weights(outputs: Path) -> dict[str, str]:
    return {
        path.relative_to(outputs).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((outputs / "artifacts").rglob("*.safetensors"))
    }


def finished(outputs: Path) -> dict[str, int]:
    return {
        path.relative_to(outputs).as_posix(): path.stat().st_mtime_ns
        for path in outputs.rglob("manifest.json")
        if ".partial" not in path.as_posix()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    moments, trials = random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory() as folder:
        calm, disturbed = Path(folder) / "calm", Path(folder) / "disturbed"
        run = [sys.executable, "run.py", "method=dimum", "attack=dimra"]
        subprocess.run(
            [*run, f"paths.outputs={calm}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        for number in range(1, arguments.kills + 1):
            process = subprocess.Popen(
                [*run, f"paths.outputs={disturbed}"],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds = moments.uniform(8, 28)  # some seven of them are imports
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            kept, before = finished(disturbed), trials[-1]["_"] if trials else {}
            trials.append(
                {
                    "seconds": round(seconds, 1),
                    "exit": process.returncode,
                    "finished": len(kept),
                    "lost_or_remade": sum(kept.get(path) != when for path, when in before.items()),
                    "_": kept,
                }
            )
            print(
                f"kill {number} after {seconds:.1f} s: exit {process.returncode}, {len(kept)}"
                " artefacts finished",
                flush=True,
            )
        started = time.monotonic()
        subprocess.run(
            [*run, f"paths.outputs={disturbed}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        last = finished(disturbed)
        result = {
            "bit_identical": weights(disturbed) == weights(calm),
            "weight_files": len(weights(calm)),
            "finished_lost_or_remade": (
                sum(t["lost_or_remade"] for t in trials)
                + sum(last.get(path) != when for path, when in trials[-1]["_"].items())
            ),
            "kills": sum(t["exit"] == -9 for t in trials),
            "partial_folders_left": len(list(disturbed.rglob("*.partial"))),
            "last_run_seconds": round(time.monotonic() - started, 1),
            "trials": [{k: v for k, v in t.items() if k != "_"} for t in trials],
            "command": " ".join(["python", *sys.argv]),
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k != "trials"}))
    sys.exit(not result["bit_identical"] or result["finished_lost_or_remade"] > 0)


if __name__ == "__main__":
    main()
