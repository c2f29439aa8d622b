"""Losses that several methods share."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from unrelearn.training import Training


def random_labels(
    t: "Training", retain_weight: float, pseudo_label: int | None = None
) -> dict[str, Tensor]:
    """Answer under c_f what the network itself answers under the pseudo label; keep denoising the
    retain set.

    L = | eps(x_f, t; c_f) - stopgrad eps(x_f, t; c') |^2 + retain_weight |eps(x_r, t; c_r) -
    eps|^2, c' = (c_f+1) mod K, or pseudo_label

    Fan et al. 2024, "SalUn" (arXiv 2310.12508), as released for class-conditional DDPMs. There the
    first term is a mean and the second a sum over 3*32*32 elements times 1e-3, which is
    retain_weight = 3.072 in the mean units used here. The target comes from the current network, as
    there; label dropout is applied to neither side of the first term (there it is drawn
    independently for both, which only adds variance). A classifier answers with a wrong label,
    drawn for each image anew.
    """
    forget = t.draw("forget", t.task.forget, label_dropout=0.0)
    pseudo = t.other_labels(forget, pseudo_label)
    retain = t.draw("retain", t.task.retain)
    means = t.means(forget=t.imitate(forget, pseudo), retain=retain)
    return {"forget": means["forget"], "retain": retain_weight * means["retain"]}
