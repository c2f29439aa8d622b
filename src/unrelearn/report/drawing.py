"""What all figures share: style, size, and how they are written.

Every function draws on its own ``Figure`` (no pyplot, no global state) and returns it; ``svg`` and
``save`` write one. Colours are Okabe and Ito's, which colour-blind readers can tell apart; markers
and hatches repeat the distinction for black-and-white print.
"""

import io
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unrelearn.report import fonts

MODEL_STYLE = {  # grey is the reference; the two models under test get the two most distant colours
    "original": {"color": "#8c8c8c", "marker": "o", "hatch": ""},
    "unlearned": {"color": "#0072B2", "marker": "s", "hatch": ""},
    "attacked": {"color": "#D55E00", "marker": "^", "hatch": "////"},
}
LINE_COLORS = (  # noqa: SIM905  # the last three of Tol's muted scheme
    "#D55E00 #0072B2 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #882255 #999933 #661100"
).split()
LINE_MARKERS = ("o", "s", "^", "p", "v", "P", "X")  # the diamond is the controls'
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "hatch.color": "white",
    "hatch.linewidth": 0.8,
    "svg.hashsalt": "unrelearn",  # the same record gives the same file
    "text.parse_math": False,  # a class may be called $5, which is no formula
}
Style: TypeAlias = dict[str, Any]  # keyword arguments of matplotlib
SIZE = (5.2, 3.4)  # inches: small, so that the type stays readable when a phone shrinks the figure

styled = matplotlib.rc_context(STYLE)  # as a decorator: entered anew at every call


@styled
def svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()

    def write() -> None:
        buffer.truncate(buffer.seek(0))
        figure.savefig(buffer, format="svg", metadata={"Date": None})

    fonts.draw(figure, write)
    return buffer.getvalue()


@styled
def save(figure: Figure, path: Path) -> None:
    """Write the figure in the format that the path's suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fonts.draw(figure, lambda: figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.03))


def new_axes(width: float = SIZE[0], height: float = SIZE[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def titled(figure: Figure, title: str, size: float = 10) -> Figure:
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=size, fontweight="bold")
    return figure


def title_and_legend(axes: Axes, title: str, columns: int = 3) -> Figure:
    """Both above the axes, where they hide no data."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.8,
        columnspacing=1.2,
        handletextpad=0.5,
    )
    figure = axes.figure
    assert isinstance(figure, Figure)  # as new_axes gives it
    return titled(figure, title, 11)
