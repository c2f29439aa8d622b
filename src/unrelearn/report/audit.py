"""The verdict on weights that somebody else unlearned (method=given), for who did not make them:
what each class of attacker brought back, beside `retrain` where that was trained.
"""

from collections.abc import Sequence
from pathlib import Path

from unrelearn.report.answer import (
    SEES,
    WHO,
    accuracy,
    answer,
    images,
    lead,
    no_reference,
    within_limit,
)
from unrelearn.report.attackers import (
    IMAGES,
    NOTHING,
    ORIGINAL,
    Attacked,
    attacked,
    limit_of,
    share_text,
)
from unrelearn.report.groups import fingerprint
from unrelearn.report.method_page import outputs_of, what_it_is
from unrelearn.report.page import sample_grids
from unrelearn.report.records import NONE, Record, main_of, troubles
from unrelearn.report.render import Context, page
from unrelearn.report.sections import run_rows
from unrelearn.report.table import results, scales_of
from unrelearn.report.verdict import oracle_line
from unrelearn.report.words import (
    BROKE,
    DASH,
    forgotten,
    guidance_label,
    labelled,
    percent,
    sentence,
)

# what a reference and the given weights have in common
COMMON = ("model.unet", "model.schedule", "oracle", "sampler", "precision")
MEANING = {
    NOTHING: "What comes back here was still in the weights: anybody who has the model can have it,"
    " some without any data. What does not come back was not found at these rates and budgets,"
    " which is no proof that it is gone.",
    IMAGES: "Some of what comes back here was brought along: only what is beyond the same attack on"
    " a model that never saw the class came from the weights.",
    ORIGINAL: "These are no attacks that anybody would need: they say how near the model still is"
    " to the one that knew the class.",
}


def audits(records: Sequence[Record]) -> list[list[Record]]:
    """Runs on given weights, together where the weights and the claim are the same."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if given := record.get("given"):
            files = sorted(given["files"]["method.checkpoint"].values())
            claim = [record["dataset"], record["forget_classes"], record.get("protocol")]
            groups.setdefault(repr([files, claim]), []).append(record)
    return list(groups.values())


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
    beside, why_none = reference(same, records)
    unlike = unlike_attacks(same, retrained) if beside else {}
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
        "answer": answer(same, beside),
        "lead": lead(same, beside),
        "grids": sample_grids(shown_run(same), outputs_of(first)),
        "number": images(first),
        "no_reference": why_none,
        "within": within_limit(same) if limit is not None else "",
        "limit": limit,
        "exceeding": exceeding(same),
        "original": "model.checkpoint" in given["files"],
        "retrained": bool(beside),
        "classes": [
            {"title": title, "meaning": MEANING[who], "tables": _tables(shown, beside, who, scales)}
            for who, title in WHO.items()
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


def reference(same: Sequence[Record], records: Sequence[Record]) -> tuple[list[Attacked], str]:
    """`retrain` under the same attacks; nothing, and why, where it is no reference."""
    retrained = of_retrain(same[0], records)
    if not retrained or (why := no_reference(same, retrained)):
        return [], why if retrained else ""
    return attacked(retrained, unlike_attacks(same, retrained)), ""


def words(same: Sequence[Record], records: Sequence[Record]) -> list[str]:
    """The verdict for a terminal; records: among them those of the reference."""
    beside, why = reference(same, records)
    lines = [answer(same, beside), lead(same, beside), why]
    if limit_of(same) is not None and not exceeding(same):
        lines.append(within_limit(same))
    return [line for line in lines if line]


def shown_run(same: Sequence[Record]) -> Record:
    """Of whoever holds nothing of the class and brings back most: its images are looked at."""
    names = [name for each in attacked(same) if each.holds == NOTHING for name in each.runs]
    return next((r for name in names for r in same if r["name"] == name), same[0])


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
