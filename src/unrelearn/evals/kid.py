"""KID: kernel distance between generated and real images of the retained classes, in Inception
features.

Binkowski et al. 2018 (arXiv 1801.01401), on the images as inception.py shows them (clean-fid's mode
`clean`). The estimate is that of evals/kid_oracle.py: unbiased at any N, over all images instead of
subsets, with a standard error and a floor.
"""

from unrelearn.evals.evidence import Evidence
from unrelearn.evals.kid_oracle import compare


def run(evidence: Evidence) -> dict:
    return compare(evidence, "inception")
