"""Draw faces whose attributes are known exactly, in the layout of CelebA: a stand-in for its
photographs, which no script may fetch.

The parts are those of python-avatars (MIT), and resvg makes pixels of them: pip install
'unrelearn[avatars]'. Face k is a function of --seed and k alone. Attributes are fair coins, tossed
independently; all else (hair, clothes, colours, eyes) is drawn evenly. Of ten images eight are for
training, one for validation and one for testing. The same command goes on where it was stopped,
and a larger --number adds to what is there.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unrelearn import launch, progress
from unrelearn.errors import UsageError
from unrelearn.paths import given

SIDE = 64  # pixels
WHOLE, VIEW = 'viewBox="0 0 264 280"', 'viewBox="52 38 160 160"'  # the face
LARGEST = 999_999  # a name has six digits
FOLDER, LIST, SPLIT = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
EXAMPLES = """
examples:
  python scripts/make_avatars.py                       10,000 faces into data/avatars
  python scripts/make_avatars.py --root /scratch/faces then dataset.root=/scratch/faces
  python scripts/make_avatars.py --sheet avatars.png   twelve faces with and without glasses
"""


def of(kind: str, names: str) -> list[str]:
    """Values of an enumeration of python_avatars."""
    return [f"{kind}.{name}" for name in names.split()]


HAIR = of(
    "HairType",
    "NONE BIG_HAIR BOB BUN CAESAR CAESAR_SIDE_PART CURLY FRIZZLE FRO LONG_NOT_TOO_LONG MIA_WALLACE"
    " SHAGGY SHORT_CURLY SHORT_FLAT SHORT_ROUND SHORT_WAVED SIDES STRAIGHT_1 STRAIGHT_STRAND"
    " CORNROWS ELVIS MOHAWK MOWGLI PIXIE QUIFF WILD",
)
HATS = of("HatType", "CHEF_CAP HAT WINTER_HAT_1 WINTER_HAT_2 WINTER_HAT_3 WINTER_HAT_4")
GLASSES = of("AccessoryType", "KURT PRESCRIPTION_2 ROUND SUNGLASSES WAYFARERS")
BEARDS = of("FacialHairType", "BEARD_LIGHT BEARD_MAGESTIC BEARD_MEDIUM")
DYES = of(
    "HairColor",
    "AUBURN BLACK BLONDE BLONDE_GOLDEN BROWN BROWN_DARK PASTEL_PINK PLATINUM RED SILVER_GRAY",
)
FABRICS = of(
    "ClothingColor",
    "BLACK BLUE_01 BLUE_02 BLUE_03 GRAY_02 HEATHER PASTEL_GREEN PASTEL_ORANGE PINK RED WHITE",
)
# attribute, as CelebA names what means the same -> the part that shows it, what that is without and
# with it. Every beard has a moustache and hides a closed mouth, and hats hide hair: Mustache,
# Mouth_Slightly_Open, Bald and the colours of hair would depend on these.
SHOWN = {
    "Eyeglasses": ("accessory", of("AccessoryType", "NONE"), GLASSES),
    "No_Beard": ("facial_hair", BEARDS, of("FacialHairType", "NONE")),
    "Pale_Skin": (
        "skin_color",
        of("SkinColor", "BLACK BROWN DARK_BROWN TANNED"),
        of("SkinColor", "PALE"),
    ),
    "Smiling": (
        "mouth",
        of("MouthType", "CONCERNED DISBELIEF SCREAM_OPEN"),
        of("MouthType", "BIG_SMILE SMILE"),
    ),
    "Wearing_Hat": ("top", HAIR, HATS),
}
# part that has no attribute -> what it is
FREE = {
    "hair_color": DYES,
    "facial_hair_color": DYES,
    "hat_color": FABRICS,
    "clothing_color": FABRICS,
    "clothing": of("ClothingType", "BLAZER_SHIRT COLLAR_SWEATER HOODIE OVERALL SHIRT_CREW_NECK"),
    "eyes": of("EyeType", "CLOSED DEFAULT HAPPY SIDE SQUINT SURPRISED WINK"),
    "eyebrows": of("EyebrowType", "ANGRY_NATURAL DEFAULT_NATURAL FLAT_NATURAL UP_DOWN_NATURAL"),
    "nose": of("NoseType", "DEFAULT SMALL WIDE"),
    "background": ["#65c9ff", "#b6e3f4", "#c0aede", "#ff9eb5", "#9fd8a4", "#f0e6a8", "#8d99ae"],
}
PARTS = (*(part for part, _, _ in SHOWN.values()), *FREE)


@dataclass(frozen=True)
class Face:
    """What is drawn: its attributes, and of each part a number in [0, 1), which of the values that
    the attributes leave it takes.
    """

    attributes: dict[str, bool]
    chances: dict[str, float]

    @property
    def parts(self) -> dict[str, str]:
        """Part -> its value, ``AccessoryType.ROUND``."""
        left = {
            part: worn if self.attributes[name] else without
            for name, (part, without, worn) in SHOWN.items()
        }
        return {
            part: values[int(self.chances[part] * len(values))]
            for part, values in (left | FREE).items()
        }

    def but(self, **attributes: bool) -> "Face":
        """The same one with another attribute."""
        return replace(self, attributes={**self.attributes, **attributes})


def draw(seed: int, number: int) -> Face:
    """Face `number` of a seed, both from 0 to 2**32 - 1."""
    rng = np.random.RandomState([seed, number])  # its stream never changes (NEP 19)
    tossed = rng.randint(2, size=len(SHOWN)).astype(bool).tolist()
    chances = rng.random_sample(len(PARTS)).tolist()
    return Face(dict(zip(SHOWN, tossed, strict=True)), dict(zip(PARTS, chances, strict=True)))


Render = Callable[[Face, int], bytes]


def renderer() -> Render:
    """(face, side in pixels) -> a PNG.

    Raises:
        UsageError: a package is missing.
    """
    avatars, resvg = _package("python_avatars"), _package("resvg_py")

    def value(text: str) -> Any:
        kind, _, name = text.partition(".")
        return getattr(getattr(avatars, kind), name)

    def render(face: Face, side: int) -> bytes:
        parts = face.parts
        background = parts.pop("background")
        style = avatars.AvatarStyle.TRANSPARENT
        chosen = {part: value(text) for part, text in parts.items()}
        svg = avatars.Avatar(style=style, **chosen).render().replace(WHOLE, VIEW, 1)
        svg = svg.replace('width="264px" height="280px"', f'width="{side}" height="{side}"', 1)
        drawn = resvg.svg_to_bytes(svg_string=svg, background=background, skip_system_fonts=True)
        return bytes(drawn)

    return render


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"{name}: can not be imported ({error}). Type pip install 'unrelearn[avatars]', or pip"
            " install python-avatars resvg-py"
        ) from error


def lists(number: int, seed: int) -> dict[str, str]:
    """Name -> text of both lists, of faces 1 to `number`, as CelebA has them."""
    rows, split = [], []
    for k in range(1, number + 1):
        signs = " ".join(["-1", "1"][yes].rjust(2) for yes in draw(seed, k).attributes.values())
        rows.append(f"{name_of(k)} {signs}\n")
        split.append(f"{name_of(k)} {max(0, (k - 1) % 10 - 7)}\n")
    return {LIST: f"{number}\n{' '.join(SHOWN)} \n{''.join(rows)}", SPLIT: "".join(split)}


def name_of(number: int) -> str:
    """Lossless, as the pixels around an attribute must not change with it."""
    return f"{number:06d}.png"


def make(root: Path, number: int, seed: int, render: Render) -> int:
    """Write the lists, then the images that are not there yet.

    Returns:
        How many were drawn.

    Raises:
        UsageError: there are faces of another seed.
    """
    texts, images = lists(number, seed), root / FOLDER
    if (root / LIST).exists():
        rows = ((root / LIST).read_text(), texts[LIST])
        old, new = (text.splitlines()[1:] for text in rows)
        if any(a != b for a, b in zip(old, new, strict=False)):
            raise UsageError(
                f"--seed {seed}: {root / LIST} is of other faces. Type --root FOLDER with another"
                " one, or the seed that it was made with"
            )
    images.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write(root / name, text.encode())
    there = set(os.listdir(images))
    missing = [k for k in range(1, number + 1) if name_of(k) not in there]
    with progress.bar("draw faces", number, number - len(missing)) as advance:
        for k in missing:
            write(images / name_of(k), render(draw(seed, k), SIDE))
            advance(1)
    return len(missing)


def write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    aside = path.with_name(f".{path.name}.partial")
    aside.write_bytes(content)
    os.replace(aside, path)


def sheet(path: Path, seed: int, render: Render, columns: int = 12, side: int = 96) -> None:
    """A picture of faces, below each the same one with glasses."""
    whole = Image.new("RGB", (columns * side, 2 * side))
    for column in range(columns):
        for row in range(2):
            face = draw(seed, column + 1).but(Eyeglasses=row == 1)
            drawn = Image.open(io.BytesIO(render(face, side)))
            whole.paste(drawn.convert("RGB"), (column * side, row * side))
    whole.quantize(128).save(path, optimize=True)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = launch.parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--root",
        type=given,
        default=Path("data/avatars"),
        metavar="FOLDER",
        help="where to put them (default: data/avatars, where dataset=avatars looks)",
    )
    parser.add_argument("--number", type=int, default=10_000, help="of faces: 10000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=given, metavar="FILE", help="draw one picture, and no set")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    root = options.root.expanduser()
    try:
        if not 1 <= options.number <= LARGEST:
            raise UsageError(f"--number {options.number}: must be 1 to {LARGEST}. Type 10000")
        if not 0 <= options.seed < 2**32:
            raise UsageError(f"--seed {options.seed}: must be 0 to {2**32 - 1}. Type --seed 0")
        if options.sheet:
            sheet(options.sheet, options.seed, renderer())
            print(options.sheet)
            return 0
        drawn = make(root, options.number, options.seed, renderer())
    except UsageError as error:
        return launch.complain(error.problems)
    except OSError as error:
        where = f"--root {root}: {error}"
        return launch.complain([f"{where}. Type --root FOLDER with one of yours that has room"])
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    print(f"{root}: {options.number} faces, {drawn} of them drawn now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
