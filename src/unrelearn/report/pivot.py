"""One setting across a table: what an attack brings back at each of its learning rates, or of each forgotten class."""

import json
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from unrelearn.report import DASH, forgotten, guidance_label, guidances, measured, number, retained_guidance, row_of, strongest
from unrelearn.report.compare import estimate_text, markdown, markdown_table, tables
from unrelearn.report.groups import Estimate, Group, estimate, gathered, pooled
from unrelearn.report.matrix import Treatment, treatments

CAPTION = (
    "Forget accuracy in %, at guidance {scales}, the highest over the attack's budgets or levels{before}. Mean over seeds (of "
    "each over its classes) ± half of the 95 % t-interval; of one run its Wilson interval over images. (5 of 9): so many of the "
    "runs were made.{more}"
)
BEFORE = "; before: of the unlearned model"
STRONGEST = " Strongest: for each run the highest of its row, as an attacker chooses who sees the result; ≥ where one is missing."
ALL = " All: every run of the row."
RETAINED = " Retained: accuracy on the retained classes, of the unlearned model and after that attack at guidance {first}."
ABSENT = object()


def setting(record: dict, key: str):
    """What a run has at ``attack.learning_rate``, or its classes at ``forget``; ABSENT if it has no such setting."""
    value = record["forget_classes"] if key == "forget" else record["config"]
    for part in key.split(".") if key != "forget" else ():
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return ABSENT if isinstance(value, dict) else tuple(value) if isinstance(value, list) else value


def to_markdown(groups: Sequence[Group], key: str) -> str:
    """One table for each protocol and attack: methods as rows, the values of a setting as columns, the firmest method first.

    Args:
        groups: of `groups.comparison`.
        key: ``forget``, or a key of the configuration such as ``attack.learning_rate`` or ``method.max_steps``.

    Raises:
        ValueError: no run with an attack has this setting.
    """
    attacked = [group for group in groups if group.first["attack"] != "none" and guidances(pooled(group.records))
                and setting(group.first, key) is not ABSENT]  # fmt: skip
    if not attacked:
        known = {f"{section}.{name}" for group in groups for section in ("method", "attack")
                 for name in group.first["config"].get(section) or {} if name != "_target_"}  # fmt: skip
        raise ValueError(f"--by {key}: no run with an attack has this setting. Known: {', '.join(['forget', *sorted(known)])}")
    parts = []
    for title, members in tables(attacked).items():
        named = zip(members, treatments(members, "method", (key,)), treatments(members, "attack", (key,)), strict=True)
        for attack, same in gathered(named, lambda part: part[2]).items():
            rows: dict[Treatment, list[dict]] = {}
            for group, method, _ in same:
                rows.setdefault(method, []).extend(group.records)
            every = sorted((record for runs in rows.values() for record in runs), key=lambda record: record["forget_classes"])
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
    values = sorted({setting(record, key) for record in every}, key=lambda v: (v is None, isinstance(v, str), v or 0))
    names = {setting(record, key): forgotten(record) if key == "forget" else json.dumps(setting(record, key)) for record in every}
    columns = {method: [[record for record in runs if setting(record, key) == value] for value in values]
               for method, runs in rows.items()}  # fmt: skip
    most = max(len(found) for row in columns.values() for found in row)
    cells = {method: [_text(dict.fromkeys(scales, found), _after, most) for found in row] for method, row in columns.items()}
    headers, before, more = [names[value].strip('"') for value in values], "", ""
    places = {method: [_mean(found, _after, scales[0]) for found in row] for method, row in columns.items()}
    if key == "forget" or key.startswith("attack."):  # else each column is of other models, and there is nothing to pool
        last = "all" if key == "forget" else "strongest"
        headers, before = ["before", *headers, last, "retained before", "after"], BEFORE
        more = ({"all": ALL, "strongest": STRONGEST}[last] + RETAINED).format(first=guidance_label(scales[0]))
        met = {method: list(gathered(runs, lambda record: (record["seed"], tuple(record["forget_classes"]))).values())
               for method, runs in rows.items()}  # fmt: skip
        most = max(map(len, met.values()))
        for method, families in met.items():
            models = [family[0] for family in families]
            best = {g: [max(family, key=lambda record: number(_after(record, g)) or 0) for family in families] for g in scales}
            bound = "≥ " if last == "strongest" and min(map(len, families)) < len(values) else ""
            cells[method] = [
                _text(dict.fromkeys(scales, models), _before, most), *cells[method], bound + _text(best, _after, most),
                _text({scales[0]: models}, _retained_before, most), _text({scales[0]: best[scales[0]]}, _retained_after, most)]
            places[method] = [_mean(best[scales[0]], _after, scales[0])]
    order = sorted(rows, key=lambda method: max((made.mean for made in places[method] if made), default=2))
    caption = CAPTION.format(scales=" / ".join(map(guidance_label, scales)), before=before, more=more)
    return markdown_table(["method", *headers], [[method.label, *cells[method]] for method in order]), caption


def _before(record: dict, guidance: str):
    return measured(row_of(record, "unlearned"), "forget_accuracy", guidance)


def _after(record: dict, guidance: str):
    return (strongest(record, guidance) or (None, None))[1]


def _retained_before(record: dict, guidance: str):
    return measured(row_of(record, "unlearned"), "retain_accuracy", retained_guidance(record))


def _retained_after(record: dict, guidance: str):
    return measured((strongest(record, guidance) or (None,))[0], "retain_accuracy", retained_guidance(record))


def _mean(records: Iterable[dict], of: Callable, guidance: str) -> Estimate | None:
    """Over seeds, of each over its classes: the classes of a seed share a pretrained model."""
    seeds = gathered(records, lambda record: record["seed"]).values()
    made = [[value for record in same if number(value := of(record, guidance)) is not None] for same in seeds]
    return estimate([values[0] if len(values) == 1 else fmean(map(number, values)) for values in made if values])


def _text(found: dict[str, list[dict]], of: Callable, most: int) -> str:
    """``8.0 ± 3.3 / 5.0 ± 3.3``, a number for each guidance; ``(2 of 3)`` behind it where runs are missing."""
    texts = []
    for guidance, records in found.items():
        value, made = _mean(records, of, guidance), sum(number(of(record, guidance)) is not None for record in records)
        text = DASH if value is None else estimate_text(value, 100, 1, value.n)
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
        raise ValueError(f"--into: the file has no line <!-- by {key} --> with a line <!-- end --> below it; add both where the "
                         "table is to stand")
    return before + begin + text + end + after
