"""Imagenette: 9,469 training and 3,925 test photographs of ten classes of ImageNet that are easy to
tell (Howard 2019). Nothing is downloaded here: its editions imagenette2, imagenette2-320 and
imagenette2-160 are folders train/ and val/ with a folder for each class, called by its WordNet
number; labels are in their order, which is ImageNet's.
"""

import os

from unrelearn.data.folder import Folder
from unrelearn.errors import one_line
from unrelearn.ranges import ImageSize

WORDS = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


class Imagenette(Folder):
    """Images uint8 (N, 3, image_size, image_size) in [0, 255], centre-cropped and resized.

    Args:
        root: the folder that holds train/ and val/, with some or all of the ten classes.
        image_size: height and width in pixels.
    """

    def __init__(self, root: str, image_size: ImageSize):
        super().__init__(os.path.expanduser(root), image_size)

    @property
    def class_names(self) -> tuple[str, ...]:
        if not self.root.is_dir():  # a dry run
            return tuple(WORDS.values())
        return tuple(WORDS.get(name, name) for name in self.folders)

    def check(self) -> list[str]:
        unknown = [name for name in self.folders if name not in WORDS]
        if not unknown:
            return super().check()
        why = f"holds {unknown[0]}, which is no class of Imagenette ({', '.join(WORDS)})"
        instead = "type dataset.root=/path of an unpacked imagenette2, or dataset=folder"
        return [one_line(f"dataset.root={self.root}: {why}; {instead}")]
