"""The stages of a run of federated generators."""

import json
from typing import Any

from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.compare import Compare, Floor
from unrelearn.stages.federated import Generators, Row, SyntheticTables
from unrelearn.stages.worlds import Audit

STAGES = (Generators.asked, SyntheticTables.asked, Compare.name)  # that can be left out


def lines(run: Run) -> list[Row]:
    """Every design without privacy; the protected one under every other mode."""
    gan = run.cfg.gan
    return [
        Row(design, mode)
        for mode in gan.privacy
        for design in gan.design
        if mode == "none" or design == gan.protected
    ]


def models(run: Run) -> list[Any]:
    return [Generators(run, row) for row in lines(run)]


def compared(run: Run) -> list[Compare]:
    """The floors first, then what was trained."""
    floors = [Compare(run, Floor(run, kind)) for kind in Floor.KINDS]
    return [*floors, *(Compare(run, SyntheticTables(run, row)) for row in lines(run))]


def audits(run: Run) -> list[Audit]:
    """Of one design under every mode of privacy."""
    gan = run.cfg.gan
    audited = [row for row in lines(run) if gan.audit and row.design == gan.protected]
    return [Audit(run, row) for row in audited]


def evaluations(run: Run) -> list[Compare | Audit]:
    return [*compared(run), *audits(run)]


def targets(run: Run) -> list[Stage]:
    asked = set(run.cfg.stages)
    if Compare.name in asked:
        return list(evaluations(run))
    if SyntheticTables.asked in asked:
        return [SyntheticTables(run, row) for row in lines(run)]
    return models(run)


def rows(run: Run) -> list[dict[str, Any]]:
    return [_row(run, evaluation) for evaluation in compared(run)]


def _row(run: Run, evaluation: Compare) -> dict[str, Any]:
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


def about(run: Run) -> dict[str, Any]:
    gan, dataset = run.cfg.gan, run.dataset
    return {
        "kind": "vflgan",
        "replicas": gan.replicas,
        "image_size": dataset.image_size,
        "parties": Compare(run, Floor(run, "halves")).columns.parties,
        "statistics": gan.statistics,
        "select": gan.select,
        "audits": [_audit(audit) for audit in audits(run)],
    }


def _audit(audit: Audit) -> dict[str, Any]:
    artifact = audit.build()
    verdicts = json.loads((artifact.path / "verdicts.json").read_text())
    return {"model": audit.what, "audit": audit.id, "delta": audit.delta, "verdicts": verdicts}
