"""One setting across a table: what an attack brings back at each of its learning rates, or of each forgotten class."""

from collections.abc import Sequence

from unrelearn.report import forgotten, guidance_label, guidances, measured, number, retained_guidance, row_of, strongest
from unrelearn.report.compare import estimate_text, markdown, markdown_table, tables
from unrelearn.report.groups import Group, estimate, gathered, pooled
from unrelearn.report.matrix import Treatment, treatments

CAPTION = (
    "Forget accuracy in %, at guidance {scales}: of the unlearned model, then the highest over the attack's budgets or levels; "
    "mean over runs (seeds, classes) ± half of the 95 % t-interval; of one run its Wilson interval over images. {last} Retained: "
    "accuracy on the retained classes, of the unlearned model and after the strongest attack at guidance {first}."
)
LAST = {
    "strongest": "Strongest: for each seed and class the highest of its row, as an attacker would choose who sees the result.",
    "all": "All: every run of the row.",
}


def setting(record: dict, key: str):
    """What a run has at ``attack.learning_rate``, or at ``forget`` (``class 7``); None if it has no such setting."""
    if key == "forget":
        return forgotten(record)
    value = record["config"]
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def to_markdown(groups: Sequence[Group], key: str) -> str:
    """One table for each protocol and attack: methods as rows, the values of a setting as columns, the firmest method first.

    Args:
        groups: of `groups.comparison`.
        key: ``forget``, or a key of the configuration such as ``attack.learning_rate`` or ``method.max_steps``.

    Raises:
        ValueError: no run with an attack has this setting.
    """
    attacked = [group for group in groups if group.first["attack"] != "none" and setting(group.first, key) is not None]
    if not attacked:
        known = sorted({f"{section}.{name}" for group in groups for section in ("method", "attack")
                        for name in group.first["config"].get(section) or {} if name != "_target_"})  # fmt: skip
        raise ValueError(f"--by {key}: no run with an attack has this setting. Known: forget, {', '.join(known)}")
    last = "strongest" if key.startswith("attack.") else "all"
    parts = []
    for title, members in tables(attacked).items():
        named = zip(members, treatments(members, "method", (key,)), treatments(members, "attack", (key,)), strict=True)
        for attack, same in gathered(named, lambda part: part[2]).items():
            rows: dict[Treatment, list[dict]] = {}
            for group, method, _ in same:
                rows.setdefault(method, []).extend(group.records)
            every = [record for runs in rows.values() for record in runs]
            classes, scales = " and ".join(dict.fromkeys(map(forgotten, every))), guidances(pooled(every))
            values = sorted({setting(record, key) for record in every})
            headers = ["method", "before", *map(str, values), last, "retained before", "after"]
            cells = sorted((_row(method, runs, key, values, scales) for method, runs in rows.items()), key=lambda row: row[0])
            parts += [f"### {markdown(f'{attack.label}, {classes}: {title}')}",
                      markdown_table(headers, [texts for _, texts in cells]),
                      CAPTION.format(scales=" / ".join(map(guidance_label, scales)), last=LAST[last],
                                     first=guidance_label(scales[0]))]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _row(method: Treatment, runs: list[dict], key: str, values: Sequence, scales: Sequence[str]) -> tuple[float, list[str]]:
    """Its place in the order, and its cells."""
    def text(found: dict[str, list[dict]], of, n: int) -> str:
        return " / ".join(estimate_text(estimate([of(record, g) for record in found[g]]), 100, 1, n) for g in found)

    def after(record: dict, guidance: str) -> dict | None:
        return (strongest(record, guidance) or (None, None))[1]

    def before(record: dict, guidance: str) -> dict | None:
        return measured(row_of(record, "unlearned"), "forget_accuracy", guidance)

    def retained(record: dict, row: dict | None) -> dict | None:
        return measured(row, "retain_accuracy", retained_guidance(record))

    columns = [[record for record in runs if setting(record, key) == value] for value in values]
    n, models, best = max(map(len, columns)), runs, dict.fromkeys(scales, runs)
    if key.startswith("attack."):  # one model met them all
        families = gathered(runs, lambda record: (record["seed"], tuple(record["forget_classes"]))).values()
        models = [members[0] for members in families]
        best = {g: [max(members, key=lambda record: number(after(record, g)) or 0) for members in families] for g in scales}
    final = estimate([after(record, scales[0]) for record in best[scales[0]]])
    kept = ([retained(record, row_of(record, "unlearned")) for record in models],
            [retained(record, (strongest(record, scales[0]) or (None,))[0]) for record in best[scales[0]]])  # fmt: skip
    return (final.mean if final else 2), [
        method.label, text(dict.fromkeys(scales, models), before, len(models)),
        *(text(dict.fromkeys(scales, column), after, n) for column in columns), text(best, after, len(best[scales[0]])),
        *(estimate_text(estimate(values), 100, 1, len(values)) for values in kept),
    ]  # fmt: skip


def put_into(page: str, key: str, text: str) -> str:
    """The page with the text between its lines ``<!-- by KEY -->`` and ``<!-- end -->``.

    Raises:
        ValueError: there are no such lines.
    """
    before, begin, rest = page.partition(f"<!-- by {key} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    if not (begin and end):
        raise ValueError(f"--into: the file has no line <!-- by {key} --> with a line <!-- end --> below it; add both where the "
                         "table is to stand")
    return before + begin + text + end + after
