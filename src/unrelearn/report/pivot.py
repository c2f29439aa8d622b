"""One setting across a table: what an attack brings back at each of its learning rates, or of each
forgotten class.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from unrelearn.report import (
    DASH,
    forgotten,
    guidance_label,
    guidances,
    measured,
    number,
    retained_guidance,
    row_of,
)
from unrelearn.report.compare import estimate_text, markdown, markdown_table, tables
from unrelearn.report.groups import Estimate, Group, estimate, gathered, pooled
from unrelearn.report.matrix import Treatment, treatments
from unrelearn.report.strongest import BROKE, averaged, strongest

CAPTION = (
    "Forget accuracy in %, at guidance {scales}, of the attacked models: at the end of an attack"
    " whose rate falls to nought, else at its best budget or level, chosen on the first half of the"
    " images and reported on the second; the mean over attack seeds{before}. Attack broke the"
    " model: retained accuracy fell by more than 2 points or the distance grew by more than half;"
    " the number, if there is one, is of the strongest budget before. Of five seeds and more (of"
    " each the mean over its classes) the mean ± half of the 95 % t-interval, of fewer the value of"
    " each; of one run its Wilson interval over images. (5 of 9): so many of the models were"
    " attacked.{more}"
)
BEFORE = "; before: of the unlearned model"
STRONGEST = (
    " Strongest: the highest of its row that leaves the model whole, as an attacker would choose; ≥"
    " where one is missing."
)
ALL = " All: every run of the row."
RETAINED = (
    " Retained: accuracy on the retained classes, of the unlearned model and after that attack at"
    " guidance {first}."
)
ABSENT = object()


def setting(record: dict, key: str):
    """What a run has at ``attack.learning_rate``, or its classes at ``forget``; ABSENT if it has no
    such setting.
    """
    value = record["forget_classes"] if key == "forget" else record["config"]
    for part in key.split(".") if key != "forget" else ():
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return ABSENT if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


def to_markdown(groups: Sequence[Group], key: str) -> str:
    """One table for each protocol and attack: methods as rows, the values of a setting as columns,
    the firmest method first.

    Args: groups: of `groups.comparison`. key: ``forget``, or a key of the configuration such as
        ``attack.learning_rate`` or ``method.max_steps``.

    Raises:
        ValueError: no run with an attack has this setting.
    """
    attacked = [
        group
        for group in groups
        if group.first["attack"] != "none"
        and guidances(pooled(group.records))
        and setting(group.first, key) is not ABSENT
    ]
    if not attacked:
        known = {
            f"{section}.{name}"
            for group in groups
            for section in ("method", "attack")
            for name in group.first["config"].get(section) or {}
            if name != "_target_"
        }
        raise ValueError(
            f"--by {key}: no run with an attack has this setting. Known:"
            f" {', '.join(['forget', *sorted(known)])}"
        )
    parts = []
    for title, members in tables(attacked).items():
        named = zip(
            members,
            treatments(members, "method", (key,)),
            treatments(members, "attack", (key,)),
            strict=True,
        )
        for attack, same in gathered(named, lambda part: part[2]).items():
            rows: dict[Treatment, list[dict]] = {}
            for group, method, _ in same:
                rows.setdefault(method, []).extend(group.records)
            every = sorted(
                (record for runs in rows.values() for record in runs),
                key=lambda record: record["forget_classes"],
            )
            classes = " and ".join(dict.fromkeys(map(forgotten, every)))
            table, caption = _table(rows, key)
            if caption in parts:  # said once, below the last table that it is true of
                parts.remove(caption)
            parts += [f"### {markdown(f'{attack.label}, {classes}: {title}')}", table, caption]
    return "\n\n".join(parts) + "\n"


def _table(rows: dict[Treatment, list[dict]], key: str) -> tuple[str, str]:
    """The table, and a paragraph that says what is in it."""
    every = [record for runs in rows.values() for record in runs]
    scales = guidances(pooled(every))
    values = sorted(
        {setting(record, key) for record in every},
        key=lambda v: (v is None, isinstance(v, str), v or 0),
    )
    names = {
        setting(record, key): (
            forgotten(record) if key == "forget" else json.dumps(setting(record, key))
        )
        for record in every
    }
    columns = {
        method: [
            _families(record for record in runs if setting(record, key) == value)
            for value in values
        ]
        for method, runs in rows.items()
    }
    most = max(len(found) for row in columns.values() for found in row)
    cells = {
        method: [_text(found, _after, scales, most) for found in row]
        for method, row in columns.items()
    }
    headers, before, more = [names[value].strip('"') for value in values], "", ""
    places = {
        method: [_mean(found, _after, scales[0]) for found in row]
        for method, row in columns.items()
    }
    if key == "forget" or key.startswith(
        "attack."
    ):  # else each column is of other models, and there is nothing to pool
        last = "all" if key == "forget" else "strongest"
        headers, before = ["before", *headers, last, "retained before", "after"], BEFORE
        more = ({"all": ALL, "strongest": STRONGEST}[last] + RETAINED).format(
            first=guidance_label(scales[0])
        )
        families = {method: _families(runs) for method, runs in rows.items()}
        most = max(map(len, families.values()))
        for method, met in families.items():
            tried = min(len({setting(record, key) for record in family}) for family in met)
            bound = "≥ " if last == "strongest" and tried < len(values) else ""
            cells[method] = [
                _text(met, _before, scales, most),
                *cells[method],
                bound + _text(met, _after, scales, most),
                _text(met, _retained_before, scales[:1], most),
                _text(met, _retained_after, scales[:1], most),
            ]
            places[method] = [_mean(met, _after, scales[0])]
    order = sorted(
        rows, key=lambda method: max((made.mean for made in places[method] if made), default=2)
    )
    caption = CAPTION.format(
        scales=" / ".join(map(guidance_label, scales)), before=before, more=more
    )
    return (
        markdown_table(["method", *headers], [[method.label, *cells[method]] for method in order]),
        caption,
    )


def _families(records: Iterable[dict]) -> list[list[dict]]:
    """The runs of each unlearned model: its learning rates and attack seeds."""
    return list(
        gathered(records, lambda record: (record["seed"], tuple(record["forget_classes"]))).values()
    )


def _before(family: list[dict], guidance: str):
    return measured(row_of(family[0], "unlearned"), "forget_accuracy", guidance)


def _after(family: list[dict], guidance: str):
    """Of intact models, or of broken ones what their best budget before showed."""
    return best.value if (best := strongest(family, guidance)) else None


def _retained_before(family: list[dict], guidance: str):
    return measured(row_of(family[0], "unlearned"), "retain_accuracy", retained_guidance(family[0]))


def _retained_after(family: list[dict], guidance: str):
    best = strongest(family, guidance)
    return (
        averaged(
            [
                measured(row, "retain_accuracy", retained_guidance(record))
                for record, row in best.pairs
            ]
        )
        if best
        else None
    )


def _mean(families: Iterable[list[dict]], of: Callable, guidance: str) -> Estimate | None:
    """Over seeds, of each over its classes: the classes of a seed share a pretrained model."""
    seeds = gathered(families, lambda family: family[0]["seed"]).values()
    made = [
        [value for family in same if number(value := of(family, guidance)) is not None]
        for same in seeds
    ]
    return estimate(
        [values[0] if len(values) == 1 else fmean(map(number, values)) for values in made if values]
    )


def _text(families: list[list[dict]], of: Callable, scales: Sequence[str], most: int) -> str:
    """``8.0 ± 3.3 / 5.0 ± 3.3``, a number for each guidance; ``(2 of 3)`` behind it where runs are
    missing.
    """
    texts = []
    for guidance in scales:
        value, made = (
            _mean(families, of, guidance),
            sum(number(of(family, guidance)) is not None for family in families),
        )
        text = DASH if value is None else estimate_text(value, 100, 1, value.n)
        broken = (
            [best.broke for family in families if (best := strongest(family, guidance))]
            if of is _after
            else []
        )
        if broken and all(broken):
            text = BROKE if value is None else f"{BROKE}, {text}"
        texts.append(text + (f" ({made} of {most})" if 0 < made < most else ""))
    return " / ".join(texts)


def put_into(page: str, key: str, text: str) -> str:
    """The page with the text between its lines ``<!-- by KEY -->`` and ``<!-- end -->``.

    Raises:
        ValueError: there are no such lines.
    """
    before, begin, rest = page.partition(f"<!-- by {key} -->\n")
    old, end, after = rest.partition("<!-- end -->")
    if not (begin and end) or "<!-- by " in old:
        raise ValueError(
            f"--into: the file has no line <!-- by {key} --> with a line <!-- end --> below it; add"
            " both where the table is to stand"
        )
    return before + begin + text + end + after
