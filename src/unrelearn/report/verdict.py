"""The result of one record in plain words, computed from its numbers."""

from unrelearn.report.records import (
    NONE,
    ONLY,
    Interval,
    Record,
    Row,
    curve_of,
    interval,
    main_guidance,
    measured,
    number,
    presence,
    retained_guidance,
    row_of,
    rows_of,
    shows_class,
    takes_steps,
)
from unrelearn.report.stats import intact
from unrelearn.report.strongest import reported, strongest
from unrelearn.report.table import results
from unrelearn.report.words import (
    BROKE,
    budget_words,
    class_name,
    display_name,
    forgotten,
    guidance_label,
    percent,
    plain,
    row_label,
    sentence,
    weight_notes,
)

NOTABLE = 0.10  # a change of accuracy worth a sentence, if the intervals agree that it is one


def verdict(record: Record) -> str:
    """The result in one or two sentences.

    "Brought it back" and "took it from" are said only where the two 95 % intervals do not touch.
    """
    guidance, shown = main_guidance(record), presence(record)
    rows = [row_of(record, model) for model in ("original", "unlearned")]
    original, unlearned = (interval(measured(r, shown.name, guidance)) for r in rows)
    if unlearned is None:
        return _no_unlearned_model(record)
    removed = original is not None and unlearned[2] < original[1]
    if record["method"] == "original":
        removed = False
    first = _unlearning_words(record, original, unlearned, removed)
    second = _attack_words(record, guidance, original, unlearned, removed)
    where = f"({shown.words}, guidance {guidance_label(guidance)})."
    return " ".join([f"{sentence(first)}; {second} {where}", *_caveats(record, guidance)])


def _no_unlearned_model(record: Record) -> str:
    method, what = sentence(display_name(record["method"])), forgotten(record)
    if record["status"] == "diverged":
        return (
            f"{method} diverged while unlearning {what}: there is no unlearned model to measure or"
            " attack."
        )
    if record["status"] == "failed":
        return f"The run failed: {record.get('error') or 'no reason was recorded'}."
    told = _membership(record) or "the unlearned model was not measured"
    return f"{method} on {what}: {told}."


def _membership(record: Record) -> str:
    """How well forgotten images are told from held-out ones, by the first score of records."""
    rows = [row_of(record, model) for model in ("original", "unlearned")]
    original, unlearned = (measured(row, "membership", ONLY) or {} for row in rows)
    if not unlearned:
        return ""
    name = unlearned["scores"][0]
    fields = (original, name), (unlearned, name), (unlearned, f"{name}_retrain")
    before, after, reference = (plain(number(of.get(field)), digits=3) for of, field in fields)
    return (
        f"forgotten images are told from images that no model saw with AUC {after} by {name}, where"
        f" the original has {before} and retraining {reference}"
    )


def _unlearning_words(
    record: Record, original: Interval | None, unlearned: Interval, removed: bool
) -> str:
    method, what, after = display_name(record["method"]), forgotten(record), percent(unlearned[0])
    if record["method"] == "original":
        return f"Control without unlearning: {what} stands at {after}"
    if record["method"] == "retrain":
        return f"Training from scratch without {what} leaves it at {after}"
    if original is None:
        return f"{method} left {what} at {after}"
    before = percent(original[0])
    if removed:
        return f"{method} took {what} from {before} to {after}"
    return f"{method} did not lower {what} beyond chance: {before} before, {after} after"


def _attack_words(
    record: Record, guidance: str, original: Interval | None, unlearned: Interval, removed: bool
) -> str:
    if record["attack"] == NONE:
        return "no attack was run"
    attack, rows = display_name(record["attack"]), rows_of(record, "attacked")
    curve = []
    for row in rows:
        value = interval(measured(row, presence(record).name, guidance))
        if value is not None:
            curve.append((row.get("step"), value))
    if not curve:
        failed = f"failed ({record.get('error') or 'no reason was recorded'})"
        ended = {"diverged": "diverged", "failed": failed}
        return f"{attack} {ended.get(record['status'], 'was not measured')}"
    steps = takes_steps(record)
    peak_step, peak = max(curve, key=lambda point: point[1][0])
    step, last = curve[-1] if steps else (peak_step, peak)  # levels are alternatives: none is last
    after = _at(record, step, "after" if steps else "at")
    within = _at(record, step, "in" if steps else "at")
    if not removed:
        words = f"{attack} leaves it at {percent(last[0])}{after}"
    elif last[1] <= unlearned[2]:
        words = f"{attack} did not bring it back: {percent(last[0])}{after}"
    elif original is not None and last[2] >= original[1]:
        words = f"{attack} brought all of it back, to {percent(last[0])}{within}"
    else:
        words = f"{attack} brought it back to {percent(last[0])}{within}"
    if peak[1] > max(last[2], unlearned[2]):  # the last budget is not the attack's best one
        words += f", after a peak of {percent(peak[0])}{_at(record, peak_step, 'at')}"
    if any(row.get("status") == "diverged" for row in rows):
        words += ", and then it diverged"
    return words


def _at(record: Record, step: float | None, word: str) -> str:
    """`` after 400 steps``; nothing where the record does not say."""
    return "" if step is None else f" {word} {budget_words(record, step)}"


# ---- caveats -------------------------------------------------------------------------------------


def _caveats(record: Record, guidance: str) -> list[str]:
    """What would make the first sentence misleading if it stood alone."""
    rows = [row_of(record, model) for model in ("original", "unlearned", "attacked")]
    notes = [
        *_damage(record, rows),
        *_dissent(record, rows[1:], guidance),
        *[f"Note: {note}." for note in weight_notes(record)],
    ]
    return notes


def _damage(record: Record, rows: list[Row | None]) -> list[str]:
    """To the retained classes, by unlearning and by the attack."""
    notes, guidance = [], retained_guidance(record)
    retain = [interval(measured(row, "retain_accuracy", guidance)) for row in rows]
    attack = "The attack"
    if rows[2] and not takes_steps(record):
        attack += f" at {budget_words(record, rows[2]['step'])}"
    for who, before, after in (
        ("Unlearning", retain[0], retain[1]),
        (attack, retain[1], retain[2]),
    ):
        if before and after and after[2] < before[1] and before[0] - after[0] > NOTABLE:
            change = f"from {percent(before[0])} to {percent(after[0])}"
            notes.append(f"{who} also took the retained classes {change}.")
    pairs = {"Unlearning ruined the model": rows[:2], "The attack broke it": rows[1:]}
    for words, (older, newer) in pairs.items():
        broke = older and newer and intact([(newer, older)], guidance) is False
        if broke and not notes:
            notes.append(
                f"{words}: retained accuracy or distance went further than a usable model's may."
            )
    return notes


def _dissent(record: Record, rows: list[Row | None], guidance: str) -> list[str]:
    """The same share by another classifier, or of other images, where it is another; these look
    for the class, which a word is more than.
    """
    of_class = not presence(record).of_word
    return [note for row in rows if of_class for note in _dissent_of(row, guidance)]


def _dissent_of(row: Row | None, guidance: str) -> list[str]:
    value = measured(row, "forget_accuracy", guidance) or {}
    agreement = measured(row, "agreement", guidance) or {}
    looks = {
        "The held-out classifier disagrees": agreement.get("held_out_forget_accuracy"),
        "Images of another sampler disagree": measured(row, "other_sampler", guidance),
        "Images on another time grid disagree": value.get("off_grid"),
    }
    notes, oracle = [], interval(value)
    for who, look in looks.items():
        other = interval(look)
        if row is None or oracle is None or other is None:
            continue
        apart = other[1] > oracle[2] or oracle[1] > other[2]
        if apart and abs(other[0] - oracle[0]) > NOTABLE:
            shares = f"{percent(other[0])}, not {percent(oracle[0])}"
            notes.append(f"{who} on the {row['model']} model: {shares}.")
    return notes


# ---- lines below the table -----------------------------------------------------------------------


def oracle_line(record: Record) -> str:
    """On real test images, and on what the original model generates."""
    original, oracle = row_of(record, "original"), record.get("oracle") or {}
    real, held_out = (number(oracle.get(f"{name}test_accuracy")) for name in ("", "held_out_"))
    forget = number(measured(original, "forget_accuracy", main_guidance(record)))
    retain = number(measured(original, "retain_accuracy", retained_guidance(record)))
    first = "not measured" if real is None else _tenth(real)
    parts = [f"{first} on real test images"]
    if held_out is not None:
        parts[0] += f" (held-out classifier: {_tenth(held_out)})"
    if forget is not None:
        parts.append(f"{_tenth(forget)} on the original model's samples of {forgotten(record)}")
    if retain is not None:
        parts.append(f"{_tenth(retain)} on its samples of the retained classes")
    return "Oracle accuracy: " + ", ".join(parts) + "."


def before_line(record: Record) -> str | None:
    """How much of the classes of an earlier request each model draws."""
    classes, guidance = record.get("forgotten_before") or [], retained_guidance(record)
    shares = {}
    for row in record["rows"] if classes else ():
        known = (measured(row, "retain_accuracy", guidance) or {}).get("per_class") or []
        values = [known[index] for index in classes if known and known[index] is not None]
        if values:
            shares[row_label(record, row)] = _tenth(sum(values) / len(values))
    if not shares:
        return None
    names = " and ".join(f"class {class_name(record, index)}" for index in classes)
    each = ", ".join(f"{model} {share}" for model, share in shares.items())
    scale = guidance_label(guidance)
    return f"Of {names}, forgotten before, images show (guidance {scale}): {each}."


def recovery_line(record: Record) -> str | None:
    """Area and steps to half at every guidance, or the strongest level; None without an attack."""
    if not takes_steps(record):
        return _levels_line(record)
    parts = []
    for guidance in sorted(record.get("recovery") or {}, key=float):
        curve = curve_of(record, guidance)
        half, last = number(curve.get("steps_to_half")), max(curve.get("budgets") or [0])
        reached = f"half of the original's not reached in {last} steps"
        if half is not None:
            reached = f"half of the original's reached after {half:.0f} steps"
        if not shows_class(record, guidance):
            reached = "the original does not show the class, so there is nothing to recover"
        area = plain(number(curve.get("area")), digits=3)
        parts.append(f"guidance {guidance_label(guidance)}: area {area}, {reached}")
    return f"Recovery at {'; at '.join(parts)}.{_cost_words(record)}" if parts else None


def _cost_words(record: Record) -> str:
    """`` The attack: 800 steps, 0.4 of pretraining.``; older records do not say."""
    share = number(record.get("attack_share_of_pretraining"))
    steps = record["rows"][-1].get("step") or 0
    words = f" The attack: {budget_words(record, steps)}, "
    return "" if share is None else f"{words}{share:.2g} of pretraining."


def _levels_line(record: Record) -> str | None:
    table, parts = results([record]), []
    best = reported(strongest(table.values, ["seed"]), ["seed"]).dropna(subset=["value"])
    for line in best.sort_values("guidance", key=lambda g: g.astype(float)).itertuples():
        text = f"guidance {guidance_label(line.guidance)}: {f'{BROKE}, ' if line.broke else ''}"
        text += f"{_tenth(line.value)} at {budget_words(record, line.at)}"
        if line.difference == line.difference:  # measured
            text += f", {100 * line.difference:+.1f} points beyond other starts"
        parts.append(text)
    return f"Strongest attack at {'; at '.join(parts)}." if parts else None


def _tenth(value: float) -> str:
    return f"{100 * value:.1f} %"
