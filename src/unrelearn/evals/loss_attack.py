"""How well the logit-scaled confidence tells D_f from test images: AUC, and true positive rates at
1 % and 0.1 % of false ones (Carlini et al. 2021, arXiv 2112.03570).

Its threshold is fitted to neither set. At 0.5 nothing shows; retrained classifiers say what that is
with so many images.
"""

from unrelearn.audits import bounds
from unrelearn.classification import scores
from unrelearn.evals.answers import ClassifierEvidence


def run(evidence: ClassifierEvidence) -> dict:
    forget, _, test = evidence.parts
    ours, theirs = (scores.logit_scaled(p.logits.numpy(), p.labels.numpy()) for p in (forget, test))
    references = []
    for number in range(evidence.num_references):
        pairs = [(p.references[number].numpy(), p.labels.numpy()) for p in (forget, test)]
        references.append(bounds.auc(*(scores.logit_scaled(*pair) for pair in pairs)))
    return {
        "value": bounds.auc(ours, theirs),
        "tpr_at_1_percent": bounds.tpr_at_fpr(ours, theirs, 0.01),
        "tpr_at_0.1_percent": bounds.tpr_at_fpr(ours, theirs, 0.001),
        "references": references,
    }
