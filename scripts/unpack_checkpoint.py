"""Turn Stable Diffusion in one file (.safetensors or .ckpt) into a folder for model.checkpoint.

No network is asked. A .ckpt is a pickle: its tensors are read, and nothing else in it is run. Where
a file has weights and their average (model_ema), the weights are taken.
"""

import json
import zlib
from importlib.util import find_spec
from zipfile import BadZipFile

from unrelearn import launch
from unrelearn.errors import UsageError
from unrelearn.paths import given

EXAMPLES = """
examples:
  python scripts/unpack_checkpoint.py v1-5-pruned-emaonly.safetensors /models/sd15
  python scripts/unpack_checkpoint.py v2-1_768-ema-pruned.ckpt /models/sd21 --like v2-768
  python scripts/unpack_checkpoint.py mine.ckpt /models/mine --tokenizer /models/sd15/tokenizer
"""


def main(arguments: list[str] | None = None) -> int:
    parser = launch.parser(__doc__, EXAMPLES)
    parser.add_argument("file", type=given, metavar="FILE", help="in the original layout")
    parser.add_argument("folder", type=given, metavar="FOLDER", help="new, or empty")
    parser.add_argument(
        "--tokenizer",
        default="open_clip",
        metavar="FOLDER_OR_PACKAGE",
        help="vocab.json and merges.txt, or a package with CLIP's words (pip install"
        " open_clip_torch)",
    )
    parser.add_argument(
        "--like",
        choices=["v1", "v2", "v2-768"],
        help="of 2.x: v2 draws 512 pixels and predicts the noise, v2-768 draws 768 and predicts v",
    )
    options = parser.parse_args(arguments)
    if find_spec("transformers") is None:
        raise UsageError("transformers is not installed. Type pip install 'unrelearn[text]'")
    from unrelearn.diffusion.single_file import unpack  # not for --help

    try:
        kind = unpack(options.file, options.folder, options.tokenizer, options.like)
    except (BadZipFile, zlib.error, json.JSONDecodeError) as error:
        why = " ".join(str(error).split())[:200]
        which = options.tokenizer if isinstance(error, json.JSONDecodeError) else options.file
        raise UsageError(f"{which}: is damaged ({why}). Download it again") from error
    print(f"{options.folder}: Stable Diffusion {kind}. Type model.checkpoint={options.folder}")
    return 0


if __name__ == "__main__":
    launch.script(main)
