"""How far one model's predictions are from those of models that were retrained.

Everything is a function of arrays: logits (N, K) of any float type, labels (N,), int. Accuracies,
rates and distances are shares in [0, 1]; multiply by 100 for the field's percent.
"""

from functools import lru_cache

import numpy as np
from scipy.special import logsumexp, rel_entr, softmax

COMPONENTS = ("ua", "ra", "ta", "mia_svc")  # of the gap


def errs(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the model errs: bool, (..., N) of logits (..., N, K)."""
    return logits.argmax(-1) != labels


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of N images whose class is predicted: RA on D_r, TA on D_t; UA = 1 - that on D_f (Jia
    et al. 2023, "Model Sparsity Can Simplify Machine Unlearning", arXiv:2304.04934).
    """
    return float(1 - errs(logits, labels).mean())


def confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Probability of the label, (N,) in [0, 1]."""
    return softmax(logits.astype(np.float64), -1)[np.arange(len(labels)), labels]


def logit_scaled(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p - log(1 - p) of the label's probability p, as z_y - logsumexp of the others: (N,), on
    the whole line, near to normal over models (Carlini et al. 2021, arXiv:2112.03570).
    """
    z: np.ndarray = logits.astype(np.float64)
    rows = np.arange(len(labels))
    others = z.copy()
    others[rows, labels] = -np.inf
    return z[rows, labels] - logsumexp(others, -1)


def mia_svc(forget: np.ndarray, retain: np.ndarray, test: np.ndarray) -> float:
    """Share of D_f that a support vector machine on the model's confidence calls "not trained on".

    MIA-efficacy "confidence" of SalUn's tables (arXiv:2310.12508; the machine of Song and Mittal
    2020, arXiv:2003.10595, as published code has it): RBF kernel, C = 3, gamma = 1, fitted to the
    first |D_t| images of D_r in the order of their indexes against D_t. No success of an attack:
    what counts is the distance to the retrained models' own value.

    Args:
        forget, retain, test: `confidence` of each image of D_f, D_r and D_t.
    """
    parts = (forget, retain[: len(test)], test)
    return _mia_svc(*(np.ascontiguousarray(part, np.float64).tobytes() for part in parts))


@lru_cache(maxsize=64)  # half a minute, and every model is measured beside the same references
def _mia_svc(*parts: bytes) -> float:
    from sklearn.svm import SVC

    forget, members, test = map(np.frombuffer, parts)
    x = np.concatenate([members, test])[:, None]
    machine = SVC(C=3, gamma="auto", kernel="rbf")
    machine.fit(x, np.repeat([1, 0], [len(members), len(test)]))
    return float((machine.predict(forget[:, None]) == 0).mean())


def agreement(logits: np.ndarray, references: np.ndarray) -> float:
    """Share of images on which the model predicts the reference's class, mean over R references.

    Args: logits (N, K), references (R, N, K). Compare with that of retrained models among
        themselves, and with the original's.
    """
    return float((logits.argmax(-1) == references.argmax(-1)).mean())


def correlation_of_misses(logits: np.ndarray, references: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation over images of "the model errs" with the share of R references that err:
    whether it errs where they do. NaN where either is the same for all images.
    """
    ours, theirs = errs(logits, labels), errs(references, labels).mean(0)
    if ours.std() == 0 or theirs.std() == 0:
        return float("nan")
    return float(np.corrcoef(ours, theirs)[0, 1])


def jensen_shannon(logits: np.ndarray, references: np.ndarray) -> float:
    """Jensen-Shannon distance of the predicted distributions, base 2, in [0, 1]: mean over images
    and references (Lin 1991; Endres and Schindelin 2003 for the square root).
    """
    p, q = (softmax(z.astype(np.float64), -1) for z in (logits, references))
    mean = (p + q) / 2
    divergence = (rel_entr(p, mean) + rel_entr(q, mean)).sum(-1) / (2 * np.log(2))
    return float(np.sqrt(np.maximum(divergence, 0)).mean())  # rounding may leave less than nothing


def expected_calibration_error(logits: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Mean distance in [0, 1] of accuracy from confidence over bins of equal width, weighted by
    their images (Guo et al. 2017, arXiv:1706.04599, eq. 3).
    """
    highest = softmax(logits.astype(np.float64), -1).max(-1)
    which = np.minimum((highest * bins).astype(int), bins - 1)
    surplus = highest - ~errs(logits, labels)
    return float(np.abs(np.bincount(which, surplus, bins)).sum() / len(labels))
