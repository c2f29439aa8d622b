"""Wine Quality, white: 4,898 wines, as data.wine_red has the red ones."""

from typing import ClassVar

from unrelearn.data.wine_red import WineRed


class WineWhite(WineRed):
    """The arguments are WineRed's."""

    file = "winequality-white.csv"
    public: ClassVar = {
        "fixed acidity": (6.9, 0.8),
        "volatile acidity": (0.3, 0.1),
        "citric acid": (0.3, 0.12),
        "residual sugar": (6.4, 5.0),
        "chlorides": (0.05, 0.02),
        "free sulfur dioxide": (35.0, 17.0),
        "total sulfur dioxide": (138.0, 42.0),
        "density": (0.994, 0.003),
        "pH": (3.2, 0.15),
        "sulphates": (0.5, 0.11),
        "alcohol": (10.5, 1.2),
    }
    grades: ClassVar[list[float]] = [3, 4, 5, 6, 7, 8, 9]
