"""scikit-learn's digits: 1,797 real 8x8 handwritten digits, small enough that a whole pipeline runs
on a laptop's CPU.

Source: the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI
repository, 1998), shipped inside scikit-learn, so nothing is downloaded. Our choice: 50 images of
each class are the test set; the files themselves know no such split.
"""

import numpy as np
import torch

from unrelearn.data import ImageData, ImageSet

TEST_IMAGES_PER_CLASS = 50


class Digits:
    """1,297 training and 500 test images, uint8 (N, 1, 8, 8) in [0, 255]."""

    image_size = 8
    channels = 1
    horizontal_flip = False  # a mirrored digit is another sign
    class_names = tuple("0123456789")

    def check(self) -> list[str]:
        return []

    def fingerprint(self) -> str:
        return "digits"

    def load(self) -> ImageData:
        from sklearn.datasets import load_digits  # two seconds of imports

        images, labels = load_digits(return_X_y=True)
        images = (
            np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        )  # 17 grey levels, 0..16
        # Shuffled, as neighbours in the file come from one writer. RandomState's stream never
        # changes (NEP 19).
        rng = np.random.RandomState(0)
        is_test: np.ndarray = np.zeros(len(labels), dtype=bool)
        for label in range(len(self.class_names)):
            is_test[rng.permutation(np.flatnonzero(labels == label))[:TEST_IMAGES_PER_CLASS]] = True
        whole = ImageSet(torch.from_numpy(images), torch.from_numpy(labels).long())
        is_test = torch.from_numpy(is_test)
        return ImageData(
            train=whole.where(~is_test), test=whole.where(is_test), class_names=self.class_names
        )
