"""The report of many runs as pages that open from disk: a front page, one page a method, one page
an attack.

The front page ranks; every number on it leads to the page of its method, where the runs, artefacts
and commands behind it are listed. Pages hold their figures inside, so that the folder can be copied
away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unrelearn.report import leaderboard, matrix
from unrelearn.report.leaderboard import legend
from unrelearn.report.method_page import method_page
from unrelearn.report.page import figure
from unrelearn.report.panel import Panel, panels
from unrelearn.report.records import Record, troubles, versions_line
from unrelearn.report.render import Context, Rich, caption, page
from unrelearn.report.sections import (
    anchor,
    attack_name,
    comparison_page,
    difference_note,
    difference_tables,
    linked,
    matrix_sections,
    slug,
)
from unrelearn.report.table import Results
from unrelearn.report.verdicts import ranked
from unrelearn.report.words import guidance_label, sentence

FRONT = "index.html"


@dataclass(frozen=True, eq=False)
class Site:
    """All pages, and where each lies relative to the front page."""

    results: Results
    folder: Path
    files: Sequence[str] = ()  # names of the other files of the report, to link to

    @cached_property
    def panels(self) -> list[Panel]:
        return panels(self.results)

    @cached_property
    def methods(self) -> dict[tuple[str, str], str]:
        """Addresses by table and label."""
        names = {(p.table, m): p.named[m][0] for p in self.panels for m in ranked_first(p)}
        return self._addresses("methods", names)

    @cached_property
    def attacks(self) -> dict[tuple[str, str], str]:
        """Addresses by table and name."""
        keys = zip(self.results.runs["table"], self.results.runs["attack"], strict=True)
        return self._addresses("attacks", {(table, name): name for table, name in keys})

    def _addresses(
        self, folder: str, names: dict[tuple[str, str], str]
    ) -> dict[tuple[str, str], str]:
        """``methods/digits-dimum.html``; ``-2.html`` for another protocol or settings."""
        addresses: dict[tuple[str, str], str] = {}
        for (table, label), name in names.items():
            dataset = self.results.tables[table][0].first["dataset"]
            stem, count = f"{folder}/{slug(f'{dataset}-{name}')}", 1
            address = f"{stem}.html"
            while address in addresses.values():
                count += 1
                address = f"{stem}-{count}.html"
            addresses[table, label] = address
        return addresses

    @cached_property
    def pages(self) -> dict[str, str]:
        """By address below the folder."""
        pages = {FRONT: self.front()}
        for (table, method), address in self.methods.items():
            same = [p for p in self.panels if p.table == table and method in p.methods]
            pages[address] = method_page(self.results, same, method, self.folder / "methods")
        for (table, name), address in self.attacks.items():
            pages[address] = self.attack_page(table, name)
        return pages

    def front(self) -> str:
        sections = matrix_sections(matrix.matrices(self.results))
        tables = []
        for title in self.results.tables:
            same = [panel for panel in self.panels if panel.table == title]
            about: Context = {"title": title, "slug": slug(title), "legend": legend(same)}
            about["boards"] = [self._board(panel) for panel in same]
            about["matrices"] = sections.get(title, {}).get("matrices", [])
            about["methods"] = {m: at for (table, m), at in self.methods.items() if table == title}
            names = {name: at for (table, name), at in self.attacks.items() if table == title}
            about["attacks"] = {attack_name(name): at for name, at in names.items()}
            tables.append(about)
        records = self.results.records
        return page(
            "front",
            title="Unrelearn: comparison of runs",
            tables=tables,
            extent=_extent(records),
            unfinished=troubles(records),
            files=self.files,
        )

    def _board(self, panel: Panel) -> Context:
        drawn = leaderboard.scatters(panel)
        scatters = [figure(drawing, name, caption("scatter")) for name, drawing in drawn]
        parts = []
        for guidance in panel.guidances:
            columns, rows = leaderboard.columns(panel, guidance), []
            for method in ranked(panel, guidance):
                address = self.methods[panel.table, method]
                cells = linked(panel, method, columns, address)
                rows.append([Rich(method, address), *cells])
            title = f"{panel.forgotten}, guidance {guidance_label(guidance)}"
            headers = ["method", *(column.header for column in columns)]
            parts.append({"title": title, "headers": headers, "rows": rows})
        return {"scatters": scatters, "parts": parts}

    def attack_page(self, table: str, name: str) -> str:
        """All methods under every setting of one attack."""
        members = [g for g in self.results.tables[table] if g.first["attack"] == name]
        same = [panel for panel in self.panels if panel.table == table]
        tables: list[Context] = []
        for panel in same:
            lines = []
            for attack in [a for a in panel.attacks if (panel.named.get(a) or (a,))[0] == name]:
                settings = panel.named[attack][1] if attack in panel.named else ""
                for method in ranked_first(panel):
                    text = method + (f" ({settings})" if settings else "")
                    address = f"../{self.methods[table, method]}#{anchor(attack)}"
                    lines.append((Rich(text, address), method, attack))
            tables += difference_tables(panel, lines)
        return comparison_page(
            self.results,
            {table: members},
            self.folder / "attacks",
            sentence(attack_name(name)),
            {table: {"differences": tables, "note": difference_note(same)}},
            f"../{FRONT}",
        )


def ranked_first(panel: Panel) -> list[str]:
    """Methods as the leaderboard at the main guidance has them."""
    return ranked(panel, panel.guidances[0]) if panel.guidances else panel.methods


def _extent(records: Sequence[Record]) -> str:
    """How much is compared, and with which versions it was made."""
    counts = [(len(records), "run")]
    counts += [(len({r[key] for r in records}), key) for key in ("method", "attack", "seed")]
    words = ", ".join(f"{n} {word}" + ("s" if n != 1 else "") for n, word in counts)
    return f"{words} (no attack counts as one). {sentence(versions_line(records))}"
