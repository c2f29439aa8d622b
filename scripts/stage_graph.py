"""Draw the stages of a run, and what each is made from, as an SVG.

python scripts/stage_graph.py method=dimum attack=dimra --out docs/stages.svg

Nothing is computed: the stages of that command say what their parents are, and the first sentence
of each class says what it is.
"""

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

from unrelearn import launch, tracks
from unrelearn.config.sweep import validated
from unrelearn.paths import given
from unrelearn.run import Run
from unrelearn.stage import Stage, walk

BOX, STEP, ROW, EDGE = (104, 34), 112, 58, "#7a8699"  # pixels
LETTER = 6.6  # pixels of a letter of a note, about
STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1d2733}.note{font-size:12px;fill:#5a6675}"
    f"path{{fill:none;stroke:{EDGE};stroke-width:1.5;marker-end:url(#tip)}}"
    "rect.box{fill:#e8eefb;stroke:#5b7bd5}"
)
TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    f'orient="auto"><path d="M0 0L8 4L0 8z" style="fill:{EDGE};stroke:none"/></marker>'
)

Graph = dict[str, set[str]]  # a stage's name -> the names of those that it is made from


def stages(*overrides: str) -> list[Stage]:
    """All stages of the run that `python run.py OVERRIDES` would do."""
    cfg, _ = validated(["tracking=none", *overrides])
    return list(walk(tracks.targets(Run(cfg, command=""))))


def parents(stages: Iterable[Stage]) -> Graph:
    graph: Graph = {}
    for stage in stages:
        graph.setdefault(stage.name, set()).update(parent.name for parent in stage.parents())
    return graph


def note(stage: Stage) -> str:
    """What it is: the first sentence, or what of it stands before a colon or a semicolon."""
    return re.split(r"[:;.]", type(stage).__doc__ or "")[0].strip()


def ancestors(graph: Graph, stage: str) -> set[str]:
    return graph[stage].union(*(ancestors(graph, parent) for parent in graph[stage]))


def depth(graph: Graph, stage: str) -> int:
    return 1 + max((depth(graph, parent) for parent in graph[stage]), default=-1)


def order(graph: Graph) -> list[str]:
    """Parents first; among equals the one from which most is made."""
    made_from = {stage: sum(stage in ancestors(graph, s) for s in graph) for stage in graph}
    return sorted(graph, key=lambda stage: (depth(graph, stage), -made_from[stage], stage))


def arrows(graph: Graph, place: dict[str, tuple[int, int]]) -> list[str]:
    """From the foot of each parent down, and into the left side of the child."""
    (width, height), paths = BOX, []
    for child, (x, y) in place.items():
        ranked = sorted(graph[child], key=lambda parent: place[parent])
        for i, parent in enumerate(ranked):
            left, top = place[parent]
            down = y + height * (i + 1) / (len(ranked) + 1)
            paths.append(f'<path d="M{left + width / 2:g} {top + height}V{down:g}H{x:g}"/>')
    return paths


def draw(graph: Graph, notes: dict[str, str]) -> str:
    """A staircase: each stage has a row and a column of its own, so no arrow crosses a box."""
    place = {stage: (16 + STEP * i, 16 + ROW * i) for i, stage in enumerate(order(graph))}
    width, height = BOX
    shapes = arrows(graph, place)
    for stage, (x, y) in place.items():
        middle = y + height / 2 + 5
        shapes += [
            f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>',
            f'<text x="{x + width / 2:g}" y="{middle:g}" text-anchor="middle">{stage}</text>',
            f'<text class="note" x="{x + width + 10}" y="{middle:g}">{escape(notes[stage])}</text>',
        ]
    right = max(x + width + 20 + LETTER * len(notes[stage]) for stage, (x, _) in place.items())
    size = f"{right:.0f} {ROW * len(graph) + 8}"
    back = '<rect width="100%" height="100%" rx="8" fill="#fff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}">'
        f"<title>Stages of a run</title><style>{STYLE}</style><defs>{TIP}</defs>{back}\n"
        + "\n".join(shapes)
        + "\n</svg>\n"
    )


def main() -> int:
    parser = launch.parser(__doc__)
    parser.add_argument("overrides", nargs="*", help="as for run.py")
    parser.add_argument("--out", type=given, default=Path("docs/stages.svg"))
    options = parser.parse_args()
    every = stages(*options.overrides)
    notes = {stage.name: note(stage) for stage in every}
    options.out.write_text(draw(parents(every), notes), encoding="utf-8")
    return 0


if __name__ == "__main__":
    launch.script(main)
