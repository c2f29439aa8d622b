"""What one sees while a stage runs: one line a stage, with the time that is left."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unrelearn import distributed

for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # a name that the terminal's encoding has no letters for is no reason to stop
        stream.reconfigure(errors="backslashreplace")
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 110  # a log file has no width of its own


def say(line: str) -> None:
    """Print one line, once, however many processes there are."""
    if distributed.is_main():
        console.print(line, markup=False)


@contextmanager
def bar(description: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """A progress bar; yields advance(n, note=""), where the note (a loss, say) stands at the end of the line."""
    columns = (TextColumn("{task.description:<32}"), BarColumn(12), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, disable=not distributed.is_main()) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(n: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=n, **({} if note is None else {"note": note}))

        yield advance
