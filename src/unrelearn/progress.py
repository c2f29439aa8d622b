"""What one sees while a stage runs: a bar with the time that is left; in a log file, a line now and
then.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unrelearn import distributed
from unrelearn.terminal import Console

QUIET = 60.0  # seconds after which a log file gets a line in any case
OFTEN = 1.0  # seconds between two lines of tenths, so that short stages do not fill the log

for stream in (sys.stdout, sys.stderr):
    # a name that the terminal's encoding has no letters for is no reason to stop
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")
console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 110  # a log file has no width of its own
console.printed_at = 0.0  # when the last line was


def say(line: str) -> None:
    """Print one line, once, however many processes there are."""
    if distributed.is_main():
        console.printed_at = time.monotonic()
        console.print(line, markup=False)


@contextmanager
def drawing(what: str) -> Iterator[None]:
    """Around what shows a result: whatever fails there costs one line, as the numbers are on
    disk.
    """
    try:
        yield
    except Exception as error:
        why = (str(error).splitlines() or [""])[0][:160]
        say(
            f"warning: {what} could not be made ({type(error).__name__}: {why}); the numbers are"
            " kept. Type the same command again to make it"
        )


@contextmanager
def alive(description: str) -> Iterator[None]:
    """In a log file, a line whenever there was none for a minute: of what counts no steps, or few,
    one could not tell that it is slow from that it hangs.
    """
    started, ended = time.monotonic(), threading.Event()

    def beat() -> None:
        while not ended.wait(max(OFTEN, QUIET - (time.monotonic() - console.printed_at))):
            if time.monotonic() - console.printed_at >= QUIET:
                say(f"{description}: goes on, {spell(time.monotonic() - started)} so far")

    thread = threading.Thread(target=beat, daemon=True)
    if not console.is_terminal:
        console.printed_at = started
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.is_alive():
            thread.join()


@contextmanager
def bar(description: str, total: int, done: int = 0) -> Iterator[Callable[..., None]]:
    """Progress of one stage; yields advance(n, note=""), where the note (a loss, say) stands at the
    end of the line.
    """
    if not console.is_terminal:
        lines = Lines(description, total, done)
        yield lines.advance
        lines.end()
        return
    from rich import progress as rich  # a terminal is one of rich's: see unrelearn.terminal

    columns = (
        rich.TextColumn("{task.description:<32}"),
        rich.BarColumn(12),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("left"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}"),
    )
    with rich.Progress(*columns, console=console, disable=not distributed.is_main()) as progress:
        task = progress.add_task(description, total=total, completed=done, note="")

        def advance(n: int = 1, note: str | None = None) -> None:
            progress.update(task, advance=n, **({} if note is None else {"note": note}))

        yield advance


@contextmanager
def live() -> Iterator[Callable[..., None]]:
    """In a terminal: yields draw(*parts), which draws them in the place of the last ones; at the
    end they are gone.
    """
    from rich.console import Group  # as above
    from rich.live import Live

    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield lambda *parts: live.update(Group(*parts), refresh=True)


class Lines:
    """A stage in a log file: a line at its start, at each tenth, where there was none for a minute,
    and at its end.
    """

    def __init__(
        self,
        description: str,
        total: int,
        done: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = say,
    ):
        self.description, self.total, self.first, self.done = description, total, done, done
        self.clock, self.say, self.note = clock, say, ""
        self.started = self.last = clock()
        self.tenth = self._tenth()
        say(f"{description}: {f'goes on at {done} of' if done else 'begins,'} {total}")

    def advance(self, n: int = 1, note: str | None = None) -> None:
        self.done += n
        self.note = self.note if note is None else note
        now, tenth = self.clock(), self._tenth()
        silent = now - self.last
        if self.done < self.total and (silent >= QUIET or (tenth > self.tenth and silent >= OFTEN)):
            self.tenth, self.last = tenth, now
            left = (now - self.started) / max(1, self.done - self.first) * (self.total - self.done)
            self._tell(f", {spell(left)} left")

    def end(self) -> None:
        self._tell(f" in {spell(self.clock() - self.started)}")

    def _tell(self, time_words: str) -> None:
        self.say(
            f"{self.description}:"
            f" {self.done}/{self.total}{time_words}{'  ' if self.note else ''}{self.note}".rstrip()
        )

    def _tenth(self) -> int:
        return 10 * self.done // max(1, self.total)


def spell(seconds: float) -> str:
    """``0:07``, ``12:30``, ``26:04:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
