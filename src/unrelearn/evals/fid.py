"""FID: Frechet distance between generated and real images of the retained classes, in Inception
features.

Heusel et al. 2017 (arXiv 1706.08500), on the images as inception.py shows them (clean-fid's mode
`clean`), in float64. As in evals/fd_oracle.py the reference is half of the real training set, and
real test images at the same N give the floor. The covariance of fewer images than the 2048 features
has not full rank: the distance is still defined, and far above that of many images. Compare only at
equal N, and read the floor beside it.
"""

from unrelearn.evals.evidence import Evidence
from unrelearn.evals.fd_oracle import compare


def run(evidence: Evidence) -> dict:
    return compare(evidence, "inception")
