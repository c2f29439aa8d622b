"""What became of the runs of a command."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from unrelearn import distributed, progress, tracking
from unrelearn.record import judge


@dataclass
class Account:
    """Of each run that ended: its record, or which it was and why it failed.

    Args:
        returned: records, in the order in which the runs were given; None of a run that left out
            evaluation.
        failed: (choices, why).
    """

    returned: list[dict | None] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def finish(self, record: dict | None) -> None:
        self.returned.append(record)

    def fail(self, choices: str, why: str) -> None:
        self.failed.append((choices, why))

    def end(self) -> int:
        """Say how the finished runs compare, and which failed and why; the exit code."""
        records = [record for record in self.returned if record is not None]
        if len(records) > 1:
            with progress.drawing("the comparison of the runs"):
                compare(records)
        code = judge(records) or (1 if self.failed else 0)
        if not distributed.is_main():
            return code
        for why in dict.fromkeys(why for _, why in self.failed):
            runs = [choices for choices, reason in self.failed if reason == why]
            print(f"failed: {' | '.join(runs)}: {why}", file=sys.stderr)
        if self.failed:
            print(
                f"{len(self.failed)} of {len(self.failed) + len(self.returned)} runs failed; the"
                " same command runs only what is missing",
                file=sys.stderr,
            )
        return code


def compare(records: list[dict]) -> None:
    """Print the comparison of the runs, log it as a table; of several attacks also the matrix, and
    write all of it as a page.
    """
    from unrelearn.report import classification, comparison, matrix, sections
    from unrelearn.report.classified import is_classifier
    from unrelearn.report.files import write_atomically
    from unrelearn.report.published import is_published
    from unrelearn.report.table import results

    outputs = Path(records[0]["config"]["paths"]["outputs"])
    tracking.grid(records, outputs, records[0]["config"]["tracking"])
    page = outputs / "report" / "index.html"
    records = [record for record in records if not is_published(record)]
    if not records:
        return  # each printed its own table
    if all(map(is_classifier, records)):
        compared = results(records)
        boards = classification.boards(compared)
        classification.show(boards)
        write_atomically(page, classification.front(compared, boards, []))
        print(f"Comparison: {page}")
        return
    comparison.show(results(records))
    compared = results(
        [{**r, "path": outputs / "runs" / r["name"] / "result.json"} for r in records]
    )
    if matrices := matrix.matrices(compared):
        matrix.show(matrices)
        above = sections.matrix_sections(matrices)
        text = sections.comparison_page(compared, {**compared.tables}, page.parent, tables=above)
        write_atomically(page, text)
        print(f"Comparison: {page}")
