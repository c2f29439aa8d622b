"""Letters that the figures' own font lacks, such as Chinese ones, from the fonts of this system."""

import re
import sys
import warnings
from collections.abc import Callable, Iterable
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontEntry, fontManager, get_font
from matplotlib.text import Text


def draw(figure: Figure, write: Callable[[], None]) -> None:
    """Call write(), and once more in further fonts where letters were missing."""
    missing = _without_glyph(write)
    if not missing:
        return
    if families := covering(frozenset(missing)):
        for text in figure.findobj(Text):
            text.set_fontfamily([*text.get_fontfamily(), *families])
        missing = _without_glyph(write)
    if missing:
        _warn("".join(map(chr, sorted(missing))))


@cache  # once, however many figures lack them
def _warn(letters: str) -> None:
    print(
        f"warning: no font of this system has the letters {' '.join(letters[:20])}: figures show"
        " them as boxes. Install one that does, such as Noto Sans CJK for Chinese, Japanese and"
        " Korean",
        file=sys.stderr,
    )


def _without_glyph(write: Callable[[], None]) -> set[int]:
    """Code points that matplotlib warned of; other warnings go where they would have gone."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write()
    missing = set()
    for warning in caught:
        text = str(warning.message)
        if match := re.match(r"Glyph (\d+) ", text):
            missing.add(int(match[1]))
        elif "does not support" not in text or "natively" not in text:
            # scripts that it draws without ligatures
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return missing


@cache
def covering(letters: frozenset[int]) -> tuple[str, ...]:
    """Font families that together hold as many of the code points as this system can."""
    families, left = [], set(letters)
    for font in _upright_first(fontManager.ttflist):
        if not left:
            break
        try:
            held = {letter for letter in left if get_font(font.fname).get_char_index(letter)}
        except (OSError, RuntimeError):  # removed since it was listed, or broken
            continue
        if held:
            families.append(font.name)
            left -= held
    return tuple(families)


def _upright_first(fonts: Iterable[FontEntry]) -> list[FontEntry]:
    """Upright fonts of normal weight first; without those that answer every letter with a box."""
    real = [font for font in fonts if "lastresort" not in font.name.replace(" ", "").lower()]
    return sorted(real, key=lambda font: (font.style != "normal", font.weight != 400))
