"""scripts/report.py as a process, and what a page of it refers to."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import forked
from command import ROOT, environment


class Page(HTMLParser):
    """Collects what a page refers to, and fails on tags that do not close."""

    VOID = ("meta", "img", "br")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.images, self.references, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        self.references += [values[key] for key in ("src", "href") if key in values]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def report(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return forked.finish(
        [sys.executable, str(ROOT / "scripts" / "report.py"), *arguments],
        cwd=cwd,
        env=environment(),
    )
