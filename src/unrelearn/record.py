"""The record of a run, result.json, and what is shown of it."""

import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from unrelearn import cost, distributed, progress, tracking, tracks
from unrelearn.artifact import Spec, write_json
from unrelearn.circumstances import circumstances, versions
from unrelearn.config import Config, protocol_label
from unrelearn.report.records import PAGE, presence
from unrelearn.run import Run
from unrelearn.stage import make, walk
from unrelearn.stages.measure import Evaluate, settle_inception


def name_of_run(run: Run) -> str:
    """Its folder in outputs/runs. The same whatever comes out of it."""
    keys = [evaluation.key for evaluation in tracks.evaluations(run)]
    identity = Spec("run", 2, {"rows": keys}).key[:8]
    again = f"-attack{run.attack.own_seed}" if run.attack.own_seed else ""
    forgotten = f"-forget{run.kind.label}" if run.kind.label else ""
    return f"{run.group}{forgotten}-seed{run.cfg.seed}{again}-{identity}"


def record(run: Run, seconds: float) -> dict[str, Any]:
    """Of a run whose stages are all there, or ruled out."""
    evaluations = tracks.evaluations(run)
    rows = tracks.rows(run)
    finished = all(row["status"] == "finished" for row in rows)
    attacks = not run.attack.identity
    return {
        "version": 1,
        "name": name_of_run(run),
        "versions": {**{s.name: s.version for s in walk(evaluations)}, **versions()},
        "circumstances": circumstances(),
        "command": run.command,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "status": "finished" if finished else "diverged",
        "error": None,
        "config": run.settings,
        "protocol": protocol_label(run.settings),
        **run.names,
        "seed": run.cfg.seed,
        "attack_seed": run.attack.own_seed,
        "class_names": list(run.dataset.class_names),
        "forget_classes": run.forget,
        "rows": rows,
        "stages": list(run.used.values()),
        "attack_share_of_pretraining": share_of_pretraining(run),
        "attack_unit": run.attack.unit,
        "attack_sees_forgotten": run.attack.sees_forgotten,
        "recovery": recovery(rows, run.attack.unit, len(run.dataset.class_names))
        if attacks
        else None,
        **tracks.about(run),
        "seconds": round(seconds, 1),
    }


def share_of_pretraining(run: Run) -> float | None:
    """What the attack's training costs, as a share of the original's; None if either was not
    trained here.

    What an attack draws before its first step is not counted.
    """
    trained = run.cfg.model.checkpoint is None and not run.method.elsewhere
    if not trained or run.attack.identity or not run.attack.max_steps:
        return None
    chain = tracks.models(run)
    return chain[-1].stage.cost().flops / chain[0].stage.cost().flops


def recovery(rows: list[dict], unit: str = "steps", num_classes: int | None = None) -> dict:
    """How forget accuracy comes back with the attack's budget, per guidance scale; of a word its
    concept accuracy, under that name.

    Args:
        num_classes: an original model that shows the forgotten class in fewer images than one in so
            many does not show it.

    Returns:
        {"1.0": {"budgets", "forget_accuracy", "area", "steps_to_half"}}: `area` is the mean forget
        accuracy over the budget axis (trapezoids), `steps_to_half` where the curve first reaches
        half of the original's, linearly interpolated, or None, as where there is no original. Both
        are None where the unit of the budget is not steps. Diverged rows are left out. Where the
        original does not show the class, there is no half, and "nothing_to_recover" is true.
    """
    known = rows[0].get("model") != "unlearned"  # whether the original is
    shown = presence({"rows": rows}).name
    original = rows[0]["metrics"].get(shown, {})  # or the first that is known
    curve = [row for row in rows[known:] if row["metrics"].get(shown)]
    result = {}
    for scale in original if curve else ():
        x = [row["step"] or 0 for row in curve]
        y = [row["metrics"][shown][scale]["value"] for row in curve]
        segments = list(zip(x, x[1:], y, y[1:], strict=False))
        area = sum((b - a) * (p + q) / 2 for a, b, p, q in segments) / x[-1] if x[-1] else y[0]
        half = original[scale]["value"] / 2 if known else math.inf
        absent = known and not _shows(original[scale], num_classes)
        places = (a + (half - p) / (q - p) * (b - a) for a, b, p, q in segments if p < half <= q)
        reached = 0.0 if y[0] >= half else next(places, None)
        result[scale] = {
            "budgets": x,
            shown: y,
            "area": area if unit == "steps" else None,
            "steps_to_half": reached if unit == "steps" and not absent else None,
            **({"nothing_to_recover": True} if absent else {}),
        }
    return result


def _shows(original: dict, num_classes: int | None) -> bool:
    """Whether a forget accuracy is more than nought, and than chance."""
    value = original["value"]
    return (
        value > 0
        and original.get("low", value) > 0
        and value >= (1 / num_classes if num_classes else 0)
    )


def finish(run: Run, spent: float = 0.0) -> dict[str, Any]:
    """Make all of a run that is missing; its record, which is the former one if all was there.

    spent: seconds that it took before this.
    """
    started = time.monotonic()
    make(tracks.targets(run))
    return former(run) or record(run, spent + time.monotonic() - started)


def former(run: Run) -> dict[str, Any] | None:
    """The record that is there, if the same command made it of the same artefacts and versions."""
    if any(used["status"] != "reused" for used in run.used.values()):
        return None
    known = _read(run.outputs / "runs" / name_of_run(run) / "result.json")
    if known is None:
        return None
    now = {"config": run.settings, "command": run.command, "circumstances": circumstances()}
    stages = {stage.name: stage.version for stage in walk(tracks.evaluations(run))}
    now["versions"] = {**stages, **versions()}
    if any(known.get(name) != value for name, value in now.items()):
        return None
    return known | {"stages": list(run.used.values())}


def execute(cfg: Config, command: str) -> dict[str, Any] | None:
    """Run a validated configuration; see `conclude`."""
    if not cfg.dry_run:
        settle_inception(cfg)
    return conclude(Run(cfg, command))


def conclude(run: Run, spent: float = 0.0) -> dict[str, Any] | None:
    """Make what is missing, print the table, write outputs/runs/<name>/ and
    outputs/report/index.html.

    Args:
        spent: seconds that were spent on parts of it before.

    Returns:
        The record; None where there is none: of a part of a run, and on other ranks than the first.
    """
    if run.cfg.dry_run:
        if distributed.is_main():
            cost.show(run, list(walk(tracks.targets(run))), progress.console)
        return None
    if Evaluate.name not in run.cfg.stages:
        make(tracks.targets(run))
        for used in run.used.values() if distributed.is_main() else ():
            status = f"{used['status']}, {used['seconds']:.1f} s"
            progress.say(f"{used['stage']:<9} {used['key']}  {status}")
        return None
    result = finish(run, spent)
    if not distributed.is_main():
        return None
    page, latest = keep(run, result), run.outputs / "report" / "index.html"
    with progress.drawing("the table"):
        from unrelearn.report.summary import print_record

        if page is not None:
            latest.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page, latest)
        print_record(result, progress.console, page=page and latest)
    return result


def keep(run: Run, result: dict[str, Any]) -> Path | None:
    """Write outputs/runs/<name>/: result.json first, as what draws may fail; the path of the page,
    if it could be made.
    """
    if not distributed.is_main():
        return None
    folder = run.outputs / "runs" / result["name"]
    page, known = folder / PAGE, _read(folder / "result.json")
    write_json(folder / "result.json", result)
    tracking.result(result, run.outputs)
    if known and known.get("created") == result["created"] and page.exists():
        return page  # as it was drawn of this record
    with progress.drawing(f"the page of {folder / 'result.json'}"):
        from unrelearn.report.page import write_page

        write_page(result, run.outputs, page)
        return page
    return None


def judge(records: Sequence[dict[str, Any]]) -> int:
    """Write the verdict on given weights, if there are any among the runs, to
    outputs/report/audit.html; the exit code of a command: 3 if audit.fail_above is exceeded.
    """
    if not any(record.get("given") for record in records) or not distributed.is_main():
        return 0
    from unrelearn.report import audit
    from unrelearn.report.files import write_atomically

    outputs = Path(records[0]["config"]["paths"]["outputs"])
    page = outputs / "report" / "audit.html"
    with progress.drawing("the verdict"):
        whole = [{**r, "path": outputs / "runs" / r["name"] / "result.json"} for r in records]
        write_atomically(page, audit.audit_page(whole, page.parent))
    for same in audit.audits(records):
        print("\n".join(audit.words(same, records)))
    print(f"Verdict: {page}")
    lines = audit.exceeding(records)
    for line in lines:
        print(line, file=sys.stderr)
    return 3 if lines else 0


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None
