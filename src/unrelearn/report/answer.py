"""The verdict on given weights in words: an answer, what it rests on, and its limit."""

from collections.abc import Mapping, Sequence

from unrelearn.report.attackers import (
    ASKING,
    NOTHING,
    Attacked,
    attacked,
    limit_of,
    share_text,
)
from unrelearn.report.records import (
    Interval,
    Record,
    interval,
    main_guidance,
    measured,
    number,
    presence,
    retained_guidance,
    row_of,
)
from unrelearn.report.stats import Estimate
from unrelearn.report.verdict import NOTABLE
from unrelearn.report.words import BROKE, forgotten, guidance_label, percent

SEES = 0.5  # of real test images a classifier is right on at least that, or it judges nothing
WHO = {
    NOTHING: "Whoever holds nothing of the class",
    "images": "Whoever holds real images of the class",
    "original": "Whoever holds the original model, or a part of it",
}
Shares = Mapping[tuple[str, str], Estimate]  # of `retrain`, by attack and guidance


def accuracy(record: Record) -> float | None:
    """Of the classifier that judges, on real test images; None if nobody measured it."""
    return ((record.get("oracle") or {}).get("test_accuracy") or {}).get("value")


def shares_of(beside: Sequence[Attacked]) -> Shares:
    return {(each.attack, each.guidance): each.share for each in beside}


def answer(same: Sequence[Record], beside: Sequence[Attacked] = ()) -> str:
    """Whether it was forgotten, as far as this can tell, in a sentence or two.

    No: more than a model shows that never saw the class, under the same attack or else without any,
    or where there is no such model more than a classifier that guesses. Both by the 95 % interval
    over images.
    beside: `retrain` under the same attacks.
    """
    seen, what = accuracy(same[0]), forgotten(same[0])
    if seen is not None and seen < SEES:
        return (
            f"It can not be told: the classifier that judges is right on {percent(seen)} of real"
            " test images. Type oracle.max_steps=NUMBER with a larger one."
        )
    references = shares_of(beside)
    chance = len(same[0]["forget_classes"]) / len(same[0]["class_names"])
    for each in (one for one in attacked(same) if one.holds == NOTHING):
        asked = references.get((ASKING, each.guidance))  # of an attack that `retrain` did not meet
        floor = references.get((each.attack, each.guidance), asked)
        top = chance if floor is None else floor.mean if floor.high is None else floor.high
        if (each.share.mean if each.share.low is None else each.share.low) > top:
            than = f"a classifier that guesses says so of {percent(chance)}"
            if floor is not None:
                than = f"a model that never saw it has {share_text(floor)}"
            return (
                f"No, it was not forgotten: {each.attack} shows {what} in"
                f" {share_text(each.share)} of the images; {than}."
            )
    there = "than a model that never saw it" if references else "than a guess would"
    return (
        f"Nothing of {what} was found: no attacker who holds nothing of it brings back more"
        f" {there}, in at most {images(same[0])} images each. That does not prove that it is gone."
    )


def lead(same: Sequence[Record], beside: Sequence[Attacked] = ()) -> str:
    """What the answer rests on, in a few sentences; beside: as in `answer`."""
    shown, what, first = attacked(same), forgotten(same[0]), same[0]
    references = shares_of(beside)
    parts = [f"It is said that {what} was forgotten."]
    before = interval(measured(row_of(first, "original"), presence(first).name, at(first)))
    if before is not None and "model.checkpoint" in first["given"]["files"]:
        parts.append(f"The original shows it in {_ends(before)} (guidance {_scale(first)}).")
    came = next((each for each in shown if not each.where), None)
    if came is not None:
        scale = f"guidance {guidance_label(came.guidance)}"
        share = share_text(came.share)
        parts.append(f"Asked for it, the model as it came shows it in {share} ({scale}).")
    for who, words in WHO.items():
        each = next((one for one in shown if one.where and one.holds == who), None)
        if each is not None:
            where = f"{each.attack}, {each.where}, guidance {guidance_label(each.guidance)}"
            where += f"; {BROKE}" if each.broke else ""
            if reference := references.get((each.attack, each.guidance)):
                where += f"; of a model that never saw the class {share_text(reference)}"
            parts.append(f"{words} brings back {share_text(each.share)} ({where}).")
    kept = retained(first)
    if kept is not None:
        parts.append(f"Of its images of the other classes {_ends(kept)} are recognised.")
    seen = accuracy(first)
    if seen is not None:
        parts.append(f"So says a classifier that is right on {percent(seen)} of real test images.")
    return " ".join(parts)


def no_reference(same: Sequence[Record], retrained: Sequence[Record]) -> str:
    """Why nothing can be compared with `retrain`; empty where it can."""
    theirs, ours = retained(same[0]), retained(retrained[0]) if retrained else None
    if theirs is None or ours is None:
        return ""
    if ours[2] >= theirs[1] or theirs[0] - ours[0] <= NOTABLE:
        return ""
    return (
        "The network that was trained without the class is no reference: of its images of the other"
        f" classes {percent(ours[0])} are recognised, of the given model's {percent(theirs[0])}."
        " Type model.pretrain.max_steps=NUMBER with a larger one"
    )


def within_limit(same: Sequence[Record]) -> str:
    """What audit.fail_above was compared with, where it was not exceeded."""
    most = next((each for each in attacked(same) if each.holds == NOTHING), None)
    if most is None:
        return ""
    limit, n = limit_of(same), images(same[0])
    words = (
        f"audit.fail_above={limit:g}: not exceeded; the most is {share_text(most.share)} of at"
        f" most {n} images ({most.attack}, guidance {guidance_label(most.guidance)})"
    )
    if most.share.high is not None and most.share.high > (limit or 0.0):
        words += ". So few can not show that it is below. Type sampler.num_images=NUMBER for more"
    return words


def retained(record: Record) -> Interval | None:
    """Accuracy on the retained classes, of the unlearned model."""
    return interval(
        measured(row_of(record, "unlearned"), "retain_accuracy", retained_guidance(record))
    )


def images(record: Record) -> int:
    """How many were generated under what was forgotten, at a guidance scale."""
    value = measured(row_of(record, "unlearned"), presence(record).name, at(record))
    return int(number(value, "n") or 0)


def at(record: Record) -> str:
    return main_guidance(record, presence(record).name)


def _scale(record: Record) -> str:
    return guidance_label(at(record))


def _ends(value: Interval) -> str:
    return f"{percent(value[0])} [{100 * value[1]:.0f}, {100 * value[2]:.0f}]"
