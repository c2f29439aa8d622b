"""dp-accounting brings absl, whose log handler closes the stream that it found when Hydra sets up
logging anew: under pytest that is the file which catches the output of all tests.
"""

import contextlib
import sys

with contextlib.suppress(ImportError):
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__
