"""A table of its own: in the terminal, as Markdown and as CSV."""

from pathlib import Path

from unrelearn.report.files import csv_text, write_atomically
from unrelearn.report.render import console_table, markdown_table, natural_width
from unrelearn.terminal import Console


def tell(header: list[str], rows: list[list[str]], path: Path | None) -> None:
    """Print it in full width and, if there is a path, write it there with .md and .csv behind; a
    line break in the header is for the terminal alone.
    """
    shown = console_table((header, rows), width=natural_width(header, rows))
    Console().print(shown, crop=False)
    if path:
        write_atomically(path.with_name(f"{path.name}.md"), markdown_table(header, rows) + "\n")
        flat = [name.replace("\n", " ") for name in header]
        write_atomically(path.with_name(f"{path.name}.csv"), csv_text(flat, rows))
