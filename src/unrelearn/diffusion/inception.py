"""The Inception network that FID, KID and the Inception Score are defined by, and what it sees in
images.

The weights of Szegedy et al. 2015 (arXiv 1512.00567) as published with TensorFlow on 2015-12-05 and
used for FID by Heusel et al. 2017 (arXiv 1706.08500), converted to one TorchScript file by NVIDIA
(StyleGAN2-ADA, Karras et al. 2020, arXiv 2006.06676). Images reach it as in the mode `clean` of
clean-fid (Parmar et al. 2022, arXiv 2104.11222): each one resized to 299 pixels by PIL's
antialiased bicubic filter without rounding to bytes, then (x - 128) / 128; grey ones are repeated
to three channels. The resizing is clean-fid's own code.

What is taken for granted of the file: `network.layers` maps (B, 3, 299, 299) to 2048 features, as
clean-fid calls it, and `network.output` is the linear layer to 1008 logits. `network(x,
no_output_bias=True)` is the softmax of these without their bias (the graph that the first Inception
Scores were computed with had none); the same is done here on the features at hand, which saves the
second pass. Ours: no TF32, so that a graphics card gives what the CPU gives to single precision.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unrelearn.data.download import fetch
from unrelearn.errors import UsageError

NAME = "inception-2015-12-05.pt"
SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"  # of the published file
NUM_FEATURES, NUM_LOGITS = 2048, 1008


def weights(path: str | None, cache: Path, download: bool) -> Path:
    """The TorchScript file: `path` if given, else the one in `cache`, else downloaded there if that
    is allowed.

    Several processes may call this at once; one downloads, and the file appears whole, with the
    published checksum.

    Raises:
        UsageError: one line, if there is no such file or it can not be had.
    """
    if path is not None:
        if not Path(path).is_file():
            raise UsageError(
                f"paths.inception_weights={path}: no such file. Type paths.inception_weights=FILE"
                f" with your copy of {NAME}, or paths.inception_weights=null to use {cache / NAME}"
            )
        return Path(path)
    file = cache / NAME
    if not file.is_file():
        # here and below: only those who need clean-fid load it
        from cleanfid.downloads_helper import inception_url

        problem = (
            "eval.fid (also kid, inception_score, features=inception): needs the Inception"
            f" network; put {NAME} ({inception_url}) into {cache} or type"
            " paths.inception_weights=FILE"
        )
        if not download:
            raise UsageError(f"{problem}.")
        try:
            fetch([inception_url], f"sha256:{SHA256}", file)
        except UsageError as error:
            raise UsageError(f"{problem} ({error}).") from error
    return file


class Inception:
    """The network on a device.

    Args:
        path: the TorchScript file, of any name.

    Raises:
        UsageError: one line, if the file can not be loaded or holds another network.
    """

    def __init__(self, path: Path, device: torch.device | str):
        self.device = torch.device(device)
        try:
            with warnings.catch_warnings():
                # TorchScript is deprecated, but it is what was published
                warnings.simplefilter("ignore", FutureWarning)
                network = torch.jit.load(str(path), map_location=self.device).eval()
            self.layers, self.weight = network.layers, network.output.weight.detach().cpu()
            if self.weight.shape != (NUM_LOGITS, NUM_FEATURES):
                raise ValueError(f"its last layer is {tuple(self.weight.shape)}")
        except (RuntimeError, ValueError, AttributeError) as error:
            reason = str(error).splitlines()[0].split(". ")[0]
            raise UsageError(
                f"paths.inception_weights={path}: is not the network {NAME} ({reason}). "
                "Type paths.inception_weights=FILE with a whole copy of it"
            ) from error

    @torch.inference_mode()
    def look(self, images: Tensor, batch_size: int = 64) -> tuple[Tensor, Tensor]:
        """Features (N, 2048) and class probabilities (N, 1008), float32 on the CPU, of uint8 images
        (N, 1 or 3, H, W).

        N may be 0. Each image is seen by itself: a slice of the images gives that slice of the
        result, up to rounding.
        """
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")
        features = torch.empty(len(images), NUM_FEATURES)
        probabilities = torch.empty(len(images), NUM_LOGITS)
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        # PIL lets go of the interpreter while it resizes
        with ThreadPoolExecutor(torch.get_num_threads()) as pool, exact:
            for start in range(0, len(images), batch_size):
                part = slice(start, start + batch_size)
                rows = images[part].expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
                resized = torch.from_numpy(np.stack(list(pool.map(resize, rows))))
                x = resized.permute(0, 3, 1, 2).to(self.device)
                features[part] = self.layers((x - 128) / 128).reshape(-1, NUM_FEATURES).cpu()
                probabilities[part] = (features[part] @ self.weight.T).softmax(1)
        return features, probabilities
