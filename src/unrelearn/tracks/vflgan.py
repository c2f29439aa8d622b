"""The stages of a run of federated generators."""

from typing import Any

from unrelearn.run import Run
from unrelearn.stage import Stage
from unrelearn.stages.compare import Compare, Floor
from unrelearn.stages.federated import Generators, Row, SyntheticTables
from unrelearn.stages.published import about_published, row_of
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
    return [row_of(evaluation) for evaluation in compared(run)]


def about(run: Run) -> dict[str, Any]:
    return about_published(run, audits(run))
