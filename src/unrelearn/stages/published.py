"""What the record of a run of federated generators says of what they publish."""

import json
from typing import Any

from unrelearn.run import Run
from unrelearn.stages.compare import Compare, Floor
from unrelearn.stages.worlds import Audit, looks


def row_of(evaluation: Compare) -> dict[str, Any]:
    """What is known of one line of the table."""
    run = evaluation.run
    seen, evaluated = evaluation.seen, evaluation.build()
    published = seen.build()
    replicas = run.cfg.gan.replicas
    row: dict[str, Any] = {
        "model": seen.what,
        "step": None,
        "status": "diverged" if published.meta["diverged"] == replicas else "finished",
        "diverged": published.meta["diverged"],
        "evaluate": evaluation.id,
        "tables": published.path.relative_to(run.outputs).as_posix(),
        "metrics": json.loads((evaluated.path / "metrics.json").read_text()),
    }
    if isinstance(seen, Floor):
        return row
    generators = seen.generators
    trained = generators.build()
    gan, reasons, account = run.cfg.gan, [], dict(trained.meta["privacy"])
    if gan.statistics == "own":
        reasons.append("columns are scaled by the parties' own statistics, outside the accountant")
    if gan.select == "best_fd":
        reasons.append("what is published was chosen by its distance to the training rows")
    if read := [column.name for column in run.dataset.columns if column.read]:
        reasons.append(f"the values of {', '.join(read)} were read from the rows")
    if reasons and seen.row.privacy != "none":
        of_mode = [account["no_guarantee"]] if account["no_guarantee"] else []
        account |= {"epsilon_record": None, "no_guarantee": "; ".join([*of_mode, *reasons])}
    crossed = {} if generators.design.joined else trained.meta["bytes"] or {}
    return row | {
        "weights": generators.id,
        "privacy": account,
        "bytes": {way: count / replicas for way, count in crossed.items()} or None,  # of one
        "seconds": trained.meta["seconds"],
    }


def about_published(run: Run, audits: list[Audit]) -> dict[str, Any]:
    gan, dataset = run.cfg.gan, run.dataset
    return {
        "kind": "vflgan",
        "replicas": gan.replicas,
        "image_size": dataset.image_size,
        "parties": Compare(run, Floor(run, "halves")).columns.parties,
        "statistics": gan.statistics,
        "select": gan.select,
        "audits": [_audit(audit) for audit in audits],
        "by_oracle": bool(audits) and looks(run),
    }


def _audit(audit: Audit) -> dict[str, Any]:
    artifact = audit.build()
    verdicts = json.loads((artifact.path / "verdicts.json").read_text())
    return {"model": audit.what, "audit": audit.id, "delta": audit.delta, "verdicts": verdicts}
