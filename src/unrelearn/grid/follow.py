"""A grid while it is being made: how many of its parts are in which state."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from unrelearn import progress
from unrelearn.grid.plan import Plan
from unrelearn.grid.status import STATES, Overview
from unrelearn.terminal import Table


def hours(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def picture(plan: Plan, seen: Overview, devices: int | None = None) -> tuple[Table | str, ...]:
    """A table of stages and states, the time that is left, and what failed.

    devices: at work, where no part tells.
    """
    table = Table("stage", title=str(plan.folder), title_justify="left")
    shown = [state for state in STATES if seen.number(state)]
    for heading in (*shown, "all"):
        table.add_column(heading, justify="right")
    for stage, counter in seen.counts.items():
        table.add_row(
            stage,
            *(f"{counter[state]:,}" if counter[state] else "" for state in shown),
            f"{sum(counter.values()):,}",
        )
    together = seen.number("running") or devices
    left = f"{hours(seen.left)} of one device left"
    if seen.done:
        left = "everything is done"
    elif together:
        left += f", about {hours(seen.left / together)} with the {together} now at work"
    else:
        left += "; nothing is running"
    why = [f"failed: {name}: {reason}" for name, reason in list(seen.failed.items())[:10]]
    if len(seen.failed) > 10:
        why.append(f"and {len(seen.failed) - 10} more in {plan.folder / 'failed'}")
    return table, left, *why


def follow(
    plan: Plan,
    look: Callable[[], Overview],
    busy: Callable[[Overview], bool],
    every: float,
    devices: int | None = None,
) -> Overview:
    """Show what is seen, as long as somebody is busy; what was seen in the end.

    every: seconds between two looks.
    """
    seen = look()
    if busy(seen):
        with _shown(plan, seen, devices) as show:
            while busy(seen):
                time.sleep(every)
                show(seen := look())
            show(seen := look())
    progress.console.print(*picture(plan, seen, devices), sep="\n")
    return seen


@contextmanager
def _shown(plan: Plan, seen: Overview, devices: int | None) -> Iterator[Callable[..., None]]:
    """A picture that is drawn anew; in a log file a line at each tenth of the parts."""
    if progress.console.is_terminal:
        with progress.live() as draw:
            draw(*picture(plan, seen, devices))
            yield lambda seen: draw(*picture(plan, seen, devices))
        return
    left = seen.unmade
    with progress.bar("parts of the grid", left) as advance:

        def tell(seen: Overview) -> None:
            nonlocal left
            advance(left - seen.unmade, note=f"{hours(seen.left)} of one device left")
            left = seen.unmade

        yield tell
