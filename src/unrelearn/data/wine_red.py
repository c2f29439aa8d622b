"""Wine Quality, red: 1,599 wines, eleven measurements and a grade (Cortez et al., Decision Support
Systems 2009; UCI repository, CC BY 4.0). Half of the columns are each of two parties'.
"""

from pathlib import Path
from typing import ClassVar

from unrelearn.data.table import Table
from unrelearn.ranges import Share


class WineRed(Table):
    """The grade is the target, and a category.

    Args:
        root: a folder that holds the file, or the file. It is not fetched.
    """

    file = "winequality-red.csv"
    # (location, scale): means as the paper's Table 1 prints them, and round numbers near its spread
    public: ClassVar = {
        "fixed acidity": (8.3, 1.7),
        "volatile acidity": (0.5, 0.2),
        "citric acid": (0.3, 0.2),
        "residual sugar": (2.5, 1.5),
        "chlorides": (0.08, 0.05),
        "free sulfur dioxide": (14.0, 10.0),
        "total sulfur dioxide": (46.0, 33.0),
        "density": (0.996, 0.002),
        "pH": (3.3, 0.15),
        "sulphates": (0.7, 0.17),
        "alcohol": (10.4, 1.1),
    }
    grades: ClassVar[list[float]] = [3, 4, 5, 6, 7, 8]  # that occur, as it prints them
    # round numbers that no table wine exceeds, of either colour
    ranges: ClassVar = {
        "fixed acidity": (3.0, 16.0),
        "volatile acidity": (0.0, 2.0),
        "citric acid": (0.0, 2.0),
        "residual sugar": (0.0, 70.0),
        "chlorides": (0.0, 0.7),
        "free sulfur dioxide": (0.0, 300.0),
        "total sulfur dioxide": (0.0, 450.0),
        "density": (0.98, 1.04),
        "pH": (2.5, 4.5),
        "sulphates": (0.0, 2.2),
        "alcohol": (8.0, 15.0),
    }

    def __init__(self, root: str, test_share: Share = 0.2):
        folder = Path(root).expanduser()
        file = folder / self.file if folder.is_dir() else folder
        target = "quality"
        super().__init__(str(file), None, {target: self.grades}, target, test_share)
        names = [*self.public, "quality"]
        self.party_columns = [names[:6], names[6:]]
