"""Records of published tables: the table of models, and the verdict."""

from typing import Any

from unrelearn.report.records import ONLY, Record, Row, measured, number
from unrelearn.report.render import Cells, caption
from unrelearn.report.words import DASH, plain

PUBLISHED = "vflgan"  # record["kind"]
PERMUTED = "real: last party permuted"
AGAIN = "real: drawn again"
# measurement, field, header, decimal places
COLUMNS = (
    ("cross_dependence", "", "cross-party\ncorr. error", 3),
    ("intra_dependence", "", "within-party\ncorr. error", 3),
    ("fd_raw", "", "FD\n(raw)", 2),
    ("fd_oracle", "", "FD\n(oracle)", 2),
    ("tstr", "", "TSTR\nacc.", 3),
    ("tstr", "f1", "TSTR\nF1", 3),
    ("nearest_record", "", "nearest\nratio", 2),
    ("sdmetrics", "", "column\nscore", 3),
    ("sdmetrics", "pairs", "pair\nscore", 3),
    ("sdmetrics", "detection", "detection\nscore", 3),
)


def is_published(record: Record) -> bool:
    return record.get("kind") == PUBLISHED


def value_of(row: Row, metric: str, field: str = "") -> Any:
    """{"value", "sd", "values"} over replicas, or None."""
    known = measured(row, metric, ONLY)
    return known.get(field) if known and field else known


def cells(record: Record) -> Cells:
    """Headers and rows; mean ± standard deviation over replicas."""
    rows = record["rows"]
    columns = [c for c in COLUMNS if any(value_of(row, c[0], c[1]) for row in rows)]
    lines = []
    for row in rows:
        texts = [_estimate(value_of(row, metric, field), n) for metric, field, _, n in columns]
        lines.append([_label(row), *texts, *_cost(row)])
    headers = [header for _, _, header, _ in columns]
    last = ["KiB a step\nup, down", "epsilon\nclaimed", "epsilon\na record"]
    return ["model", *headers, *last], lines


def _label(row: Row) -> str:
    label = str(row["model"])
    return label + (f" ({row['diverged']} diverged)" if row.get("diverged") else "")


def _estimate(value: Any, digits: int) -> str:
    mean, spread = number(value), number(value, "sd")
    if mean is None:
        return DASH
    return f"{mean:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")


def _cost(row: Row) -> list[str]:
    """Bytes that crossed, and what is claimed and what holds."""
    crossed, account = row.get("bytes"), row.get("privacy")
    sent = DASH
    if crossed:
        sent = f"{crossed['up'] / 1024:.1f}, {crossed['down'] / 1024:.1f}"
    if not account:
        return [sent, DASH, DASH]
    claimed = plain(number(account.get("epsilon_claimed")), digits=2)
    record = number(account.get("epsilon_record"))
    return [sent, claimed, "no guarantee" if record is None else f"{record:.2f}"]


def table_caption(record: Record) -> str:
    return caption(
        "published",
        replicas=record["replicas"],
        statistics=record["statistics"],
        select=record["select"],
        oracle=any(value_of(row, "fd_oracle") for row in record["rows"]),
        central=any(row["model"].startswith("wgan_gp") for row in record["rows"]),
        tstr=any(value_of(row, "tstr") for row in record["rows"]),
        reasons=reasons(record),
    )


def reasons(record: Record) -> list[str]:
    """Of each line with a mode of privacy: what was noised, and why nothing is guaranteed; of all
    others together the same.
    """
    lines, without = [], []
    for row in record["rows"]:
        account = row.get("privacy") or {}
        if account.get("mechanism", "none") == "none":
            without += [account["no_guarantee"]] if account.get("no_guarantee") else []
            continue
        delta, reason = account.get("delta"), account.get("no_guarantee")
        words = f"{row['model']}: {account['mechanism']}, {account['sampling']},"
        words += f" {account['adjacency']}" + ("" if delta is None else f", delta {delta:g}")
        lines.append(words + (f"; no guarantee: {reason}" if reason else ""))
    alone = "without a mode of privacy: no guarantee: "
    return [*(alone + reason for reason in dict.fromkeys(without)), *lines]


def verdict(record: Record) -> str:
    """Cross-party dependence of the first federated design, between its floor and no dependence."""
    errors = {
        row["model"]: value
        for row in record["rows"]
        if (value := number(value_of(row, "cross_dependence"))) is not None
    }
    floor, level = errors.get(AGAIN), errors.get(PERMUTED)
    if floor is None or level is None:
        return "The error of correlations between parties was not measured."
    words = f"Correlations between parties: error {floor:.3f} of real rows drawn again,"
    words += f" {level:.3f} where the last party's rows are permuted"
    trained = {name: value for name, value in errors.items() if not name.startswith("real")}
    listed = ", ".join(f"{name} {value:.3f}" for name, value in trained.items())
    below = [name for name, value in trained.items() if value < level]
    tail = f" Below the permuted rows: {', '.join(below) or 'none'}."
    return f"{words}; {listed}.{tail}"
