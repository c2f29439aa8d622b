"""Weights that somebody else unlearned, and how they are to be read; nothing of ours unlearns.

They are the unlearned model of the run, whose original is `model.checkpoint`, or unknown
(`stages.imported.GivenWeights`).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from unrelearn.method import Still


@dataclass(kw_only=True)
class Given(Still):
    """
    Args:
        checkpoint: a folder of diffusers or of ours, a file of SalUn's code line, or user/name on
            the Hugging Face hub.
        weights: which of a folder's; None: the average (ema) if it holds one, else raw.
        labels: the data set's classes, by name, in the order of the network's labels; None: that of
            the data set.
        null_label: where the table has the row of "no class": behind the classes, before them, or
            nowhere, as the network was trained without one.
    """

    checkpoint: str
    weights: Literal["ema", "raw"] | None = None
    labels: list[str | int] | None = None
    null_label: Literal["last", "first", "none"] = "last"

    closed = True
    elsewhere = True
    batches: ClassVar[str] = "Denoising"  # of whose models it is
