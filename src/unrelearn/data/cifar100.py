"""CIFAR-100: 60,000 colour photographs of 100 classes, 32x32 (Krizhevsky 2009, "Learning Multiple
Layers of Features").

Reads the python layout (cifar-100-python), the binary one (cifar-100-binary), or the published
archive of either; the fine labels, not the twenty coarse ones.
"""

from unrelearn.data.cifar import Layout
from unrelearn.data.cifar10 import CIFAR10
from unrelearn.ranges import Count, ImageSize

FINE_LABELS = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASS_NAMES: tuple[str, ...] = tuple(FINE_LABELS.split())


class CIFAR100(CIFAR10):
    """50,000 training and 10,000 test images (a hundredth per class), uint8 (N, 3, image_size,
    image_size) in [0, 255].

    Args:
        root: holds cifar-100-python, cifar-100-binary, cifar-100-python.tar.gz or
            cifar-100-binary.tar.gz.
        image_size: height and width in pixels; other than 32 means resized (bicubic, antialiased).
        download: whether load() may fetch the archive (which is verified) when none of the four is
            there. What is there already is read as it is, and the fingerprint is that of its
            content.
        classes: keep only these classes; their labels are 0, 1, ... in the order given here. None
            keeps all hundred.
        train_images_per_class: as in CIFAR10.
    """

    names = CLASS_NAMES
    colours = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    checksum = "md5:eb9058c3a382ffc7106e4002c42a8d85"
    layout = Layout(
        title="CIFAR-100",
        python="cifar-100-python",
        binary="cifar-100-binary",
        archives=("cifar-100-python.tar.gz", "cifar-100-binary.tar.gz"),
        packed="cifar-100-webp",
        train=("train",),
        test=("test",),
        label="fine_labels",
        label_bytes=2,
        num_classes=100,
    )

    def __init__(
        self,
        root: str,
        image_size: ImageSize = 32,
        download: bool = True,
        classes: list[str] | None = None,
        train_images_per_class: Count | None = None,
    ):
        super().__init__(root, image_size, download, False, classes, train_images_per_class)

    def _fetch_command(self) -> str:
        return ""  # its hash of content is not known to us, so the script can not vouch for it
