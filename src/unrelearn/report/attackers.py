"""What each attacker of given weights brought back, at its strongest rate and budget."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from unrelearn.report.records import NONE, Record, takes_steps
from unrelearn.report.stats import Estimate, estimate
from unrelearn.report.strongest import reported, strongest, unlearned_models
from unrelearn.report.table import Results, pick, results
from unrelearn.report.words import budget_words, percent

NOTHING, IMAGES, ORIGINAL = "nothing", "images", "original"  # what an attacker has of the class
ASKING = "asking for it"  # in place of an attack: the model as it came


@dataclass(frozen=True)
class Attacked:
    """What one attack brought back at one guidance scale, at its strongest rate and budget."""

    attack: str  # as it is shown
    holds: str  # NOTHING, IMAGES or ORIGINAL
    guidance: str
    share: Estimate
    where: str  # rate, of how many that were tried, and budget
    broke: bool  # no attacked model still drew the retained classes
    runs: tuple[str, ...]  # names, one a seed


def holds(record: Record) -> str:
    """What of the class an attacker has."""
    if (record.get("given") or {}).get("attacker_needs_original"):
        return ORIGINAL
    return IMAGES if record.get("attack_sees_forgotten") else NOTHING


def attacked(records: Sequence[Record], without: Collection[str] = ()) -> list[Attacked]:
    """Every attack at every guidance, and the model as it came; the strongest first.

    without: attacks that are left out.
    """
    compared = results(records)
    values = compared.values[~compared.values["attack"].isin([NONE, *without])]
    rates = values.groupby("attack_label")["rate"].nunique()
    shown = _each(compared, unlearned_models(compared.values).assign(attack_label=NONE), rates)
    shown += _each(compared, _strongest(values), rates) if len(values) else []
    return sorted(shown, key=lambda each: -each.share.mean)


def _strongest(values: pd.DataFrame) -> pd.DataFrame:
    """As `strongest`; of an attack that left no model whole what the strongest broken one shows."""
    by = ["attack_label", "seed"]
    pairs = strongest(values, by)
    lost = pd.MultiIndex.from_frame(pairs[pairs["value"].isna()][[*by, "guidance"]])
    anyhow = strongest(values.assign(admissible=True), by).assign(broke=True)
    broken = anyhow[pd.MultiIndex.from_frame(anyhow[[*by, "guidance"]]).isin(lost)]
    parts = [part.dropna(subset=["value"]) for part in (pairs, broken)]
    return pd.concat([part for part in parts if len(part)] or parts[:1])


def _each(results: Results, pairs: pd.DataFrame, rates: pd.Series) -> list[Attacked]:
    """rates: how many learning rates each attack tried."""
    shown = []
    lines = pairs.drop_duplicates(["attack_label", "seed", "guidance", "attack_seed"])
    seeds = reported(lines, ["attack_label", "seed"]) if len(lines) else lines
    for (label, guidance), same in seeds.groupby(["attack_label", "guidance"], sort=False):
        seen = pick(lines, attack_label=label, guidance=guidance)
        first, names = seen.iloc[0], [results.records[each]["name"] for each in seen["id"]]
        record = results.records[first["id"]]
        share = estimate(same["value"].tolist(), [*zip(same["low"], same["high"], strict=True)])
        if share is not None:
            unattacked = label == NONE
            shown.append(
                Attacked(
                    attack=ASKING if unattacked else label,
                    holds=NOTHING if unattacked else holds(record),
                    guidance=guidance,
                    share=share,
                    where="" if unattacked else _where(record, first, int(rates[label])),
                    broke=bool(same["broke"].any()),
                    runs=tuple(dict.fromkeys(names)),
                )
            )
    return shown


def _where(record: Record, line: pd.Series, rates: int) -> str:
    budget = budget_words(record, float(line["step"]))
    if line["rate"] in ("None", "nan") or not takes_steps(record):
        return budget
    tried = f"of {rates} tried" if rates > 1 else "alone"
    return f"rate {float(line['rate']):g} {tried}, {budget}"


def limit_of(same: Sequence[Record]) -> float | None:
    """audit.fail_above, of several runs the lowest."""
    limits = [(record["config"].get("audit") or {}).get("fail_above") for record in same]
    return min((limit for limit in limits if limit is not None), default=None)


def share_text(share: Estimate) -> str:
    """``31 % [25, 38]``: over images of one seed, of more the lowest and highest."""
    if share.low is None or share.high is None:
        return percent(share.mean)
    return f"{percent(share.mean)} [{100 * share.low:.0f}, {100 * share.high:.0f}]"
