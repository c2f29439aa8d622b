"""Who damages what nearby: of each method the share of retained images with every attribute right,
by the word that their caption has in the place of the forgotten one (`evals.nearby_damage`).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from unrelearn.report.panel import Panel
from unrelearn.report.render import markdown_table
from unrelearn.report.words import guidance_label, plain

UNTOUCHED = "original"
CAPTION = (
    "Share of retained images with every attribute right, in %, by the word in the place of the"
    " forgotten one; of the unlearned models, mean over seeds."
)


def to_markdown(panels: Sequence[Panel]) -> str:
    """A table for each panel and guidance scale; "" where nothing of the kind was measured."""
    parts = []
    for panel in panels:
        lines = pd.DataFrame(_lines(panel))
        for guidance, seen in lines.groupby("guidance") if len(lines) else ():
            title = f"{panel.table}, {panel.forgotten}, guidance {guidance_label(str(guidance))}"
            parts += [f"### {title}\n\n{_table(seen)}\n"]
    return "\n".join([*parts, CAPTION, ""]) if parts else ""


def _table(seen: pd.DataFrame) -> str:
    means = seen.pivot_table("share", "method", "word", sort=False)
    rows = [[str(name), *(plain(s, 100) for s in shares)] for name, *shares in means.itertuples()]
    return markdown_table(["method", *map(str, means.columns)], rows)


def _lines(panel: Panel) -> Iterator[dict[str, Any]]:
    """One for each word of each unlearned model, and of the first original."""
    first = True
    for model in panel.models.itertuples():
        label = str(model.method_label)
        for row in model.record["rows"]:
            if row["model"] == "unlearned":
                yield from _words(row, {"method": label, "seed": model.seed})
            elif row["model"] == UNTOUCHED and (first or label == UNTOUCHED):
                first = False
                yield from _words(row, {"method": UNTOUCHED, "seed": model.seed})


def _words(row: dict[str, Any], known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for guidance, values in row["metrics"].get("nearby_damage", {}).items():
        for word, share in values["values"].items():
            yield {**known, "guidance": guidance, "word": word, "share": share}
