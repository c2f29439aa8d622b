"""How text becomes a file: whole or not at all, and no cell of it is taken for a formula."""

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd


def csv_text(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """CSV with the cells of `csv_cell`."""
    names, *lines = ([csv_cell(value) for value in row] for row in [header, *rows])
    frame = pd.DataFrame(lines, columns=names, dtype=object)
    return str(frame.to_csv(index=False, na_rep="nan"))


def csv_cell(value: object) -> object:
    """Behind an apostrophe if a spreadsheet would run the text as a formula."""
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "" if value is None else value
    try:
        for word in value.split(" "):
            float(word)
        return value
    except ValueError:
        return f"'{value}"


def frame_csv(frame: pd.DataFrame) -> str:
    """A table as CSV, without its index; what is missing is empty."""
    cells = frame.astype(object).where(frame.notna(), None)
    return csv_text(frame.columns, cells.itertuples(index=False))


def write_atomically(path: Path, text: str) -> None:
    """Write aside, flush, rename: a reader never sees half; escapes what UTF-8 can not hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(
            handle, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(aside, 0o644)  # mkstemp makes it private; a report is for others to read
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
