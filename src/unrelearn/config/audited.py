"""Rules of audits of published tables: which records may be in question."""

from typing import Any

import numpy as np

from unrelearn.advice import problem
from unrelearn.arguments import printed
from unrelearn.audits import twins
from unrelearn.config.rules import Problems
from unrelearn.config.schema import Config

KEY, CHANGE = "gan.audit.targets", "gan.audit.change"
RULES = ("outlier", "median", "duplicate")


def check_targets(cfg: Config, dataset: Any) -> list[str]:
    """Problems of the records that are to be audited, each once."""
    audit = cfg.gan.audit
    if audit is None:
        return []
    if cfg.gan.statistics not in ("public", "own"):
        why = "replicas share its noise, so what an audit finds is no leak"
        instead = {"gan.statistics": "public"}
        return [problem("gan.statistics", cfg.gan.statistics, why, instead)]
    given = ["outlier"] if audit.targets is None else audit.targets
    records = dataset.load().train.numpy()
    if audit.change == "replace" and (~twins.duplicated(records)).sum() < 2:
        why, key = "there are not two records without a twin, to take each other's place", CHANGE
        return [problem(key, "replace", why, {key: "remove"})]
    if not isinstance(given, list) or not given or len({*map(str, given)}) < len(given):
        why = f"must be one or more of {', '.join(RULES)} and of rows, each once"
        return [problem(KEY, printed(given), why, {KEY: [*RULES[:2]]})]
    return [line for target in given for line in _problems(target, records)]


def _problems(target: Any, records: np.ndarray) -> Problems:
    instead = {KEY: ["outlier"]}
    if target in RULES:
        twice = twins.duplicated(records)
        if target == "duplicate" and not twice.any():
            yield problem(KEY, target, "no record is in the table twice", instead)
        elif target != "duplicate" and twice.all():
            yield problem(KEY, target, "every record has a twin", {KEY: ["duplicate"]})
    elif type(target) is not int or target not in range(len(records)):
        why = f"must be one of {', '.join(RULES)}, or a row from 0 to {len(records) - 1}"
        yield problem(KEY, printed(target), why, instead)
    elif len(same := twins.twins(records, target)):
        why = f"row {same[0]} is its twin, which stays in the world without it"
        yield problem(KEY, target, why, instead)
