"""The verdict on weights that somebody else unlearned (method=given), for who did not make them:
what each class of attacker brought back, beside `retrain` where that was trained.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from unrelearn.report.groups import fingerprint
from unrelearn.report.method_page import what_it_is
from unrelearn.report.records import NONE, Record, main_of, troubles
from unrelearn.report.render import Context, page
from unrelearn.report.sections import run_rows
from unrelearn.report.stats import Estimate, estimate
from unrelearn.report.strongest import reported, strongest, unlearned_models
from unrelearn.report.table import Results, pick, results, scales_of
from unrelearn.report.verdict import oracle_line
from unrelearn.report.words import (
    BROKE,
    DASH,
    budget_words,
    forgotten,
    guidance_label,
    labelled,
    percent,
    sentence,
)

SEES = 0.5  # of real test images a classifier is right on at least that, or it judges nothing
NOTHING, IMAGES, ORIGINAL = "nothing", "images", "original"
# what a reference and the given weights have in common
COMMON = ("model.unet", "model.schedule", "oracle", "sampler", "precision")
HOLDERS = {
    NOTHING: "Whoever holds nothing of the class",
    IMAGES: "Whoever holds real images of the class",
    ORIGINAL: "Whoever holds the original model, or a part of it",
}
MEANING = {
    NOTHING: "What comes back here was still in the weights: anybody who has the model can have it,"
    " some without any data. What does not come back was not found at these rates and budgets,"
    " which is no proof that it is gone.",
    IMAGES: "Some of what comes back here was brought along: only what is beyond the same attack on"
    " a model that never saw the class came from the weights.",
    ORIGINAL: "These are no attacks that anybody would need: they say how near the model still is"
    " to the one that knew the class.",
}


@dataclass(frozen=True)
class Attacked:
    """What one attack brought back at one guidance scale, at its strongest rate and budget."""

    attack: str  # as it is shown
    holds: str  # a key of HOLDERS
    guidance: str
    share: Estimate
    where: str  # rate, of how many that were tried, and budget
    broke: bool  # no attacked model still drew the retained classes
    runs: tuple[str, ...]  # names, one a seed


def audits(records: Sequence[Record]) -> list[list[Record]]:
    """Runs on given weights, together where the weights and the claim are the same."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if given := record.get("given"):
            files = sorted(given["files"]["method.checkpoint"].values())
            claim = [record["dataset"], record["forget_classes"], record.get("protocol")]
            groups.setdefault(repr([files, claim]), []).append(record)
    return list(groups.values())


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
                    attack="asking for it" if unattacked else label,
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
    if line["rate"] in ("None", "nan"):
        return budget
    tried = f"of {rates} tried" if rates > 1 else "alone"
    return f"rate {float(line['rate']):g} {tried}, {budget}"


def exceeding(records: Sequence[Record]) -> list[str]:
    """A line for each attacker who holds nothing of the class and brings back more of it than
    audit.fail_above, of several the lowest; one that broke the model counts with what it shows, as
    nothing says that it could not have stopped before. And one where the classifier sees too little
    to say that nothing came back.
    """
    lines = []
    for same in audits(records):
        limit = limit_of(same)
        if limit is None:
            continue
        seen = accuracy(same[0])
        if seen is not None and seen < SEES:
            lines.append(
                f"audit.fail_above={limit:g}: nothing can be said, as the classifier is right on"
                f" {percent(seen)} of real test images. Type oracle.max_steps=NUMBER"
                " with a larger one"
            )
        attacks: set[str] = set()
        for each in attacked(same):
            above = each.holds == NOTHING and each.share.mean > limit
            if above and each.attack not in attacks:
                attacks.add(each.attack)
                lines.append(
                    f"audit.fail_above={limit:g}: {each.attack} shows {forgotten(same[0])} in"
                    f" {share_text(each.share)} of the images at guidance"
                    f" {guidance_label(each.guidance)} ({', '.join(each.runs)})"
                )
    return lines


def limit_of(same: Sequence[Record]) -> float | None:
    limits = [(record["config"].get("audit") or {}).get("fail_above") for record in same]
    return min((limit for limit in limits if limit is not None), default=None)


def accuracy(record: Record) -> float | None:
    """Of the classifier that judges, on real test images; None if nobody measured it."""
    return ((record.get("oracle") or {}).get("test_accuracy") or {}).get("value")


def share_text(share: Estimate) -> str:
    """``31 % [25, 38]``: over images of one seed, of more the lowest and highest."""
    if share.low is None or share.high is None:
        return percent(share.mean)
    return f"{percent(share.mean)} [{100 * share.low:.0f}, {100 * share.high:.0f}]"


# ---- in words ------------------------------------------------------------------------------------


def lead(same: Sequence[Record], beside: Sequence[Attacked] = ()) -> str:
    """The verdict in a few sentences; beside: of `retrain`, under the same attacks."""
    shown, what = attacked(same), forgotten(same[0])
    references = {(each.attack, each.guidance): each.share for each in beside}
    came = [each for each in shown if not each.where]
    parts = [f"It is said that {what} was forgotten."]
    if came:
        scale = f"guidance {guidance_label(came[0].guidance)}"
        share = share_text(came[0].share)
        parts.append(f"Asked for it, the model as it came shows it in {share} ({scale}).")
    for who, words in HOLDERS.items():
        each = next((one for one in shown if one.where and one.holds == who), None)
        if each is not None:
            where = f"{each.attack}, {each.where}, guidance {guidance_label(each.guidance)}"
            where += f"; {BROKE}" if each.broke else ""
            if reference := references.get((each.attack, each.guidance)):
                where += f"; of a model that never saw the class {share_text(reference)}"
            parts.append(f"{words} brings back {share_text(each.share)} ({where}).")
    seen = accuracy(same[0])
    if seen is not None:
        parts.append(f"So says a classifier that is right on {percent(seen)} of real test images.")
    return " ".join(parts)


def audit_page(records: Sequence[Record], folder: Path) -> str:
    """One page for every model that was given; folder: where it will lie."""
    return page(
        "audit",
        title="Was it forgotten? The verdict on given weights",
        audits=[_section(same, records, folder) for same in audits(records)],
    )


def _section(same: Sequence[Record], records: Sequence[Record], folder: Path) -> Context:
    first, shown = same[0], attacked(same)
    retrained = of_retrain(first, records)
    unlike = unlike_attacks(same, retrained) if retrained else {}
    beside = attacked(retrained, unlike) if retrained else []
    scales = scales_of(results(same).values)
    names = {record["attack"] for record in same}
    given = first["given"]
    not_run = {name: why for record in same for name, why in record["given"]["left_out"].items()}
    not_run |= {
        name: "was not asked for"
        for name in given["attacks"]
        if name not in names and name not in not_run
    }
    limit = limit_of(same)
    return {
        "heading": f"{sentence(forgotten(first))} of {first['dataset']}",
        "lead": lead(same, beside),
        "limit": limit,
        "exceeding": exceeding(same),
        "original": "model.checkpoint" in given["files"],
        "retrained": bool(beside),
        "classes": [
            {"title": title, "meaning": MEANING[who], "tables": _tables(shown, beside, who, scales)}
            for who, title in HOLDERS.items()
        ],
        "what": {
            labelled(r["attack"], ""): what_it_is(r["config"]["attack"])[:1]
            for r in same
            if r["attack"] != NONE
        },
        "not_run": sorted((name, why) for name, why in not_run.items() if name not in names),
        "unlike": sorted(unlike.items()),
        "troubles": troubles(same),
        "oracle": oracle_line(first),
        "weights": given["weights"],
        "hashes": [
            [key, name, digest]
            for key, files in given["files"].items()
            for name, digest in sorted(files.items())
        ],
        "images": given["images"] or DASH,
        "runs": run_rows(sorted(same, key=lambda record: record["name"]), folder),
    }


def of_retrain(first: Record, records: Sequence[Record]) -> list[Record]:
    """Runs of a model of the same shape that never saw the class, measured in the same way."""
    same, wanted = ("dataset", "forget_classes", "protocol"), fingerprint(first, COMMON)
    retrained = [
        r for r in records if r["method"] == "retrain" and fingerprint(r, COMMON) == wanted
    ]
    return [r for r in retrained if all(r[name] == first[name] for name in same)]


def unlike_attacks(same: Sequence[Record], retrained: Sequence[Record]) -> dict[str, str]:
    """Attacks of the given weights that nothing of `retrain` stands beside, and why: the strongest
    of other rates or budgets is another attacker.
    """
    there, here = _ways(retrained), _ways(same)
    return {
        name: "with other settings" if name in there else "not run"
        for name in here
        if name != NONE and there.get(name) != here[name]
    }


def _ways(records: Sequence[Record]) -> dict[str, set[str]]:
    """Attack -> all settings with which it was run, its rate among them."""
    ways: dict[str, set[str]] = {}
    for record in records:
        settings = fingerprint(record, ("attack",))
        ways.setdefault(record["attack"], set()).add(repr(sorted(settings.items())))
    return ways


def _tables(
    shown: Sequence[Attacked], beside: Sequence[Attacked], who: str, scales: Sequence[str]
) -> Context | None:
    """Attacks by what they bring back, a column for each guidance scale."""
    of = {(each.attack, each.guidance): each for each in shown if each.holds == who}
    references = {(each.attack, each.guidance): each for each in beside}
    if not of:
        return None
    main = main_of(scales)
    headers = ["attack", f"strongest at\n(guidance {guidance_label(main)})"]
    for scale in scales:
        headers.append(f"brought back\nguidance {guidance_label(scale)}")
        headers += ["retrain", "beyond it"] if beside else []
    rows = []
    for attack in dict.fromkeys(attack for attack, _ in of):
        at = of.get((attack, main))
        row = [sentence(attack), at.where + (f"; {BROKE}" if at.broke else "") if at else DASH]
        for scale in scales:
            each, other = of.get((attack, scale)), references.get((attack, scale))
            row.append(share_text(each.share) if each else DASH)
            if beside:
                row.append(share_text(other.share) if other else DASH)
                gap = 100 * (each.share.mean - other.share.mean) if each and other else None
                row.append(DASH if gap is None else f"{gap:+.0f} points")
        rows.append(row)
    return {"headers": headers, "rows": rows}
