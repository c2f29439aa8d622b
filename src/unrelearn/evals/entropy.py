"""Mean entropy (nats) of the oracle's prediction under c_f: near 0 for a clean class swap, high
where it is torn.

Over the K classes and "nothing": noise that it is sure shows nothing has an entropy near 0 as well.
"""

import torch

from unrelearn.evals.evidence import Evidence


def run(evidence: Evidence) -> dict:
    return {
        scale: torch.special.entr(seen.probabilities).sum(1).mean().item()
        for scale, seen in evidence.forget.items()
    }
