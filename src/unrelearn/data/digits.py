"""scikit-learn's digits: 1,797 real 8x8 handwritten digits, small enough that a whole pipeline runs
on a laptop's CPU.

Source: the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI
repository, 1998), shipped inside scikit-learn, so nothing is downloaded. Our choice: 50 images of
each class are the test set; the files themselves know no such split.
"""

from dataclasses import replace

import numpy as np
import torch

from unrelearn.data import ImageData, ImageSet
from unrelearn.randomness import generator_for

TEST_IMAGES_PER_CLASS = 50


class Digits:
    """1,297 training and 500 test images, uint8 (N, 1, 8, 8) in [0, 255].

    Args:
        label_noise: share of the training images that get a wrong label, drawn evenly from the
            other nine, in [0, 1).
        label_noise_seed: which images, and which labels.
    """

    image_size = 8
    channels = 1
    horizontal_flip = False  # a mirrored digit is another sign
    class_names = tuple("0123456789")

    def __init__(self, label_noise: float = 0.0, label_noise_seed: int = 0):
        self.label_noise = label_noise
        self.label_noise_seed = label_noise_seed

    def check(self) -> list[str]:
        if 0 <= self.label_noise < 1:
            return []
        return [
            f"dataset.label_noise={self.label_noise}: must be a share of the training images, at"
            " least 0 and less than 1; type dataset.label_noise=0.2"
        ]

    def fingerprint(self) -> str:
        noise = f"-{self.label_noise}-{self.label_noise_seed}" if self.label_noise else ""
        return f"digits{noise}"

    def load(self) -> ImageData:
        from sklearn.datasets import load_digits  # two seconds of imports

        images, labels = load_digits(return_X_y=True)
        # 17 grey levels, 0..16
        images = np.rint(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        # Shuffled, as neighbours in the file come from one writer. RandomState's stream never
        # changes (NEP 19).
        rng = np.random.RandomState(0)
        is_test: np.ndarray = np.zeros(len(labels), dtype=bool)
        for label in range(len(self.class_names)):
            is_test[rng.permutation(np.flatnonzero(labels == label))[:TEST_IMAGES_PER_CLASS]] = True
        whole = ImageSet(torch.from_numpy(images), torch.from_numpy(labels).long())
        is_test = torch.from_numpy(is_test)
        return self._mislabelled(
            ImageData(whole.where(~is_test), whole.where(is_test), self.class_names)
        )

    def _mislabelled(self, data: ImageData) -> ImageData:
        """The data with label_noise; the true labels are kept beside the wrong ones."""
        if not self.label_noise:
            return data
        true = data.train.labels
        g = generator_for(self.label_noise_seed, "label_noise")
        drawn = torch.randperm(len(true), generator=g)[: round(self.label_noise * len(true))]
        labels = true.clone()
        shift = torch.randint(1, len(self.class_names), drawn.shape, generator=g)
        labels[drawn] = (true[drawn] + shift) % len(self.class_names)
        return replace(data, train=ImageSet(data.train.images, labels), true_labels=true)
