"""Images that are not on the device are read one step ahead, in a thread."""

from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from unrelearn.data import ImageSet

# one thread: reading ahead must not take the cores of the step
READER = ThreadPoolExecutor(1, "images")

When = tuple[int, int]  # step, pass


class ReadAhead:
    """The images of each term of a loss, from the host's memory or disk.

    pin: whether they go to a GPU from there.
    """

    def __init__(self) -> None:
        self.arriving: dict[str, tuple[tuple[ImageSet, When], Future[Tensor]]] = {}

    def read(
        self,
        term: str,
        data: ImageSet,
        now: tuple[When, Tensor],
        next_: tuple[When, Tensor],
        *,
        pin: bool,
    ) -> Tensor:
        """Images uint8 of the data at an index (B,), and begin with those that come next.

        now, next_: when they are wanted, and the index.
        """

        def fetch(index: Tensor) -> Tensor:
            images = data.images[index]
            return images.pin_memory() if pin else images

        wanted, waiting = (data, now[0]), self.arriving.pop(term, None)
        if waiting is not None and waiting[0] == wanted:
            images = waiting[1].result()
        else:
            images = fetch(now[1])
        self.arriving[term] = ((data, next_[0]), READER.submit(fetch, next_[1]))
        return images
