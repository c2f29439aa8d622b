"""Tables and pages as text: Markdown, LaTeX, and the templates of this package."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeAlias

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unrelearn.report.words import DASH, guidance_label, sentence, wrap_safe
from unrelearn.terminal import Table, escape

Cells: TypeAlias = tuple[list[str], list[list[str]]]  # headers and rows of a table
Context: TypeAlias = dict[str, Any]  # what a template is given


@dataclass(frozen=True)
class Rich:
    """A cell of an HTML table that is more than text."""

    text: str
    target: str = ""  # what it links to
    heat: str = ""  # its background
    code: bool = False


Line: TypeAlias = list[Rich | str]  # of an HTML table


@cache
def environment() -> Environment:
    """Templates in which everything is escaped; a number keeps its percent sign on its line."""
    loader = PackageLoader("unrelearn.report")
    settings = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    templates = Environment(
        loader=loader, autoescape=lambda name: str(name).endswith(".html"), **settings
    )
    templates.finalize = lambda value: wrap_safe(value) if type(value) is str else value
    templates.filters |= {"sentence": sentence, "guidance": guidance_label, "verbatim": verbatim}
    return templates


def verbatim(text: object) -> Markup:
    """Escaped, and every space as it is."""
    return Markup(html.escape(str(text)))


def page(template: str, **values: object) -> str:
    """A page of HTML from a template, which is named without .html."""
    return str(environment().get_template(f"{template}.html").render(**values))


def caption(name: str, **values: object) -> str:
    """A paragraph of templates/captions.txt, in one line."""
    text = getattr(environment().get_template("captions.txt").module, name)(**values)
    return " ".join(str(text).replace("\xa0", " ").split())


def data_url(data: bytes, kind: str) -> Markup:
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")


def natural_width(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Of a table in a terminal, in characters."""
    width = 0
    for column in zip(headers, *rows, strict=True):
        parts = [part for cell in column for part in cell.split("\n")]
        width += max(map(len, parts)) + 2
    return width


def console_table(cells: Cells, left: Sequence[int] = (0,), **about: Any) -> Table:
    """For a terminal; an interval is no markup of rich's."""
    table = Table(box=None, header_style="bold", **about)
    for index, header in enumerate(cells[0]):
        side: Literal["left", "right"] = "left" if index in left else "right"
        table.add_column(escape(header), justify=side, no_wrap=True)
    for row in cells[1]:
        table.add_row(*map(escape, row))
    return table


# ---- Markdown ------------------------------------------------------------------------------------


def markdown(text: str) -> str:
    """Escape what would end a cell or start markup; underscores inside words are safe."""
    return "".join("\\" + c if c in "\\|<*`" else c for c in str(text).replace("\n", " "))


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """The first `left` columns are flush left, the others right."""
    rule = ["---"] * left + ["---:"] * (len(headers) - left)
    lines = [map(markdown, headers), rule, *(map(markdown, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- LaTeX ---------------------------------------------------------------------------------------

LATEX = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    DASH: "--",
    '"': r"\textquotedbl{}",
}
TABLE = r"""\begin{table}
\centering
\caption{CAPTION}
\resizebox{\linewidth}{!}{%
TABULAR}
\end{table}
"""


def latex(text: str) -> str:
    """Escape text, character by character, so that no replacement meets another one."""
    return "".join(LATEX.get(character, character) for character in str(text).replace("\n", " "))


def latex_table(
    text: str, headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1
) -> str:
    """A booktabs table below its caption; needs ``\\usepackage{booktabs,graphicx}``."""
    names, *lines = (list(map(latex, row)) for row in [headers, *rows])
    columns = "l" * left + "r" * (len(headers) - left)
    tabular = pd.DataFrame(lines, columns=names).to_latex(index=False, column_format=columns)
    return TABLE.replace("TABULAR", tabular.rstrip()).replace("CAPTION", latex(text))
