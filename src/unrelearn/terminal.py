"""The terminal: rich where it is installed, plain lines where it is not, as on a borrowed GPU."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

__all__ = ["Console", "Markdown", "Table", "escape"]


class PlainConsole:
    """Of rich's what is used here, without colours and of a fixed width."""

    is_terminal, quiet, width = False, False, 110

    def __init__(self, **looks: Any):
        pass

    def print(self, *parts: object, **looks: Any) -> None:
        if not self.quiet:
            print(*parts, flush=True)


class PlainTable:
    """Columns of text, the first flush left, the others right."""

    def __init__(self, *headers: str, title: str = "", caption: str = "", **looks: Any):
        self.title, self.caption = title, caption
        self.lines: list[Sequence[str]] = [list(headers)]

    def add_column(self, header: str, **looks: Any) -> None:
        self.lines[0] = [*self.lines[0], header]

    def add_row(self, *cells: str) -> None:
        self.lines.append(cells)

    def __str__(self) -> str:
        lines = [[str(cell).replace("\n", " ") for cell in line] for line in self.lines]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = []
        for first, *rest in lines:
            cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
            text.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        return "\n".join(filter(None, [self.title, *text, self.caption]))


if TYPE_CHECKING:
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.markup import escape
    from rich.table import Table
else:
    try:
        from rich.console import Console
        from rich.markdown import Markdown
        from rich.markup import escape
        from rich.table import Table
    except ModuleNotFoundError:
        Console, Table, Markdown, escape = PlainConsole, PlainTable, str, str
