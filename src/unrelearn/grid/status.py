"""What of a grid is done, being made, and failed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from unrelearn.grid.parts import Part
from unrelearn.grid.plan import Plan
from unrelearn.grid.work import Failures, running

STATES = ("done", "diverged", "running", "queued", "to do", "failed")


class Overview(NamedTuple):
    """counts: stage -> state -> number of parts. left: seconds of what is to be made. failed: name
    -> why.
    """

    counts: dict[str, Counter]
    left: float
    failed: dict[str, str]

    def number(self, *states: str) -> int:
        """Of parts in these states."""
        return sum(counter[state] for counter in self.counts.values() for state in states)

    @property
    def unmade(self) -> int:
        return self.number(*STATES[2:])

    @property
    def done(self) -> bool:
        return self.unmade == 0


def overview(
    plan: Plan, queued: Iterable[str] = (), ended: Mapping[str, str] = MappingProxyType({})
) -> Overview:
    """What of a grid is there, what is being made, and what failed when it was last tried.

    queued: parts that wait in a queue. ended: parts of jobs that are over -> what to say of one
    that could have been made.
    """
    inventory, parts = plan.inventory, plan.parts
    inventory.list()
    held, noted, waiting = running(plan.folder), Failures(plan.folder).all(), set(queued)
    seconds = plan.seconds()
    counts: dict[str, Counter] = {stage: Counter() for stage in plan.stages}
    left = 0.0
    failed: dict[str, str] = {}
    for part in parts.values():
        state, why = _final_state(plan, part), noted.get(part.name)
        if state is None:
            left += seconds(part)
            ready = all(inventory.done(parts[need], parts) for need in part.needs)
            if why is None and ready:
                why = ended.get(part.name)
            named = {"running": part.name in held, "queued": part.name in waiting}
            named |= {"failed": bool(why), "to do": True}
            state = next(name for name, holds in named.items() if holds)
        if state == "failed":
            failed[part.name] = str(why)
        counts[part.stage][state] += 1
    inventory.list_no_more()
    return Overview({stage: counter for stage, counter in counts.items() if counter}, left, failed)


def _final_state(plan: Plan, part: Part) -> str | None:
    inventory = plan.inventory
    if inventory.there(part.name):
        return "diverged" if part.trains and inventory.diverged(part.name) else "done"
    return "diverged" if inventory.ruled_out(part, plan.parts) else None
