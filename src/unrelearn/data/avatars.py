"""Drawn faces with attributes that are known exactly, in the layout of CelebA: a stand-in for its
photographs, which no script may fetch. `scripts/make_avatars.py` draws them of the parts of
python-avatars (MIT).

The classes are those of CelebA: every combination of a few attributes.
"""

from unrelearn.advice import shell
from unrelearn.data.celeba import CelebA
from unrelearn.ranges import ImageSize


class Avatars(CelebA):
    """Training and test images, uint8 (N, 3, image_size, image_size) in [0, 255], on disk; nothing
    is cut off.

    Args:
        root: the folder that scripts/make_avatars.py has written.
        condition: 1 to 6 attributes. With n of them there are 2**n classes; the first is the most
            significant bit.
        image_size: height and width in pixels.
    """

    whole = (64, 64)
    example = ("Eyeglasses", "Smiling")

    def __init__(self, root: str, condition: list[str], image_size: ImageSize = 32):
        super().__init__(root, condition, image_size, crop=self.whole[0])

    @property
    def values(self) -> list[list[int]]:
        """Of each class the number of each attribute's value: classifiers get a head for each."""
        return [list(values) for values in self.classes.values]

    @property
    def source(self) -> str:
        return f"type python scripts/make_avatars.py --root {shell(str(self.root))}"

    again = source
