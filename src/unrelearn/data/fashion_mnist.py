"""Fashion-MNIST: 70,000 grey product photographs, MNIST's format (Xiao, Rasul and Vollgraf 2017,
arXiv:1708.07747).
"""

from typing import ClassVar

from unrelearn.data.mnist import MNIST


class FashionMNIST(MNIST):
    """60,000 training and 10,000 test images, uint8 (N, 1, image_size, image_size) in [0, 255].

    Takes MNIST's arguments; its files are looked for in root/FashionMNIST/raw, then in root itself.
    """

    folder = "FashionMNIST"
    class_names = (
        "t-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    files: ClassVar = {
        "train-images-idx3-ubyte": (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        ),
        "train-labels-idx1-ubyte": (
            "25c81989df183df01b3e8a0aad5dffbe",
            "9018921c3c673c538a1fc5bad174d6f9",
        ),
        "t10k-images-idx3-ubyte": (
            "bef4ecab320f06d8554ea6380940ec79",
            "8181f5470baa50b63fa0f6fddb340f0a",
        ),
        "t10k-labels-idx1-ubyte": (
            "bb300cfdad3c16e7a12a480ee83cd310",
            "15d484375f8d13e6eb1aabb0c3f46965",
        ),
    }
