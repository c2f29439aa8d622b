"""scikit-learn's digits (data.digits) as a table of 64 columns, whose halves are two parties'."""

from unrelearn.data.digits import Digits
from unrelearn.data.table import PixelTables, TableData, pixels


class DigitsHalves(PixelTables):
    """1,297 training and 500 test rows."""

    def __init__(self) -> None:
        super().__init__(Digits())

    def training_rows(self) -> int:
        return 1297

    def fingerprint(self) -> str:
        return "digits_halves"

    def load(self) -> TableData:
        data = self.images.load()
        return TableData(pixels(data.train), pixels(data.test))
