"""MNIST (data.mnist) as a table of pixels: VFLGAN's own experiment, top and bottom halves."""

from unrelearn.data.mnist import MNIST
from unrelearn.data.table import PixelTables, TableData, pixels
from unrelearn.ranges import ImageSize


class MNISTHalves(PixelTables):
    """60,000 training and 10,000 test rows. The arguments are MNIST's."""

    def __init__(self, root: str, image_size: ImageSize = 28, download: bool = True):
        super().__init__(MNIST(root, image_size, download))
        self.root = self.images.root

    def check(self) -> list[str]:
        return self.images.check()

    def training_rows(self) -> int:
        return 60000

    def fingerprint(self) -> str:
        return f"{self.images.fingerprint()}_halves"

    def load(self) -> TableData:
        data = self.images.load()
        return TableData(pixels(data.train), pixels(data.test))
