"""Train on synthetic rows, test on real ones that nothing was trained on."""

from typing import Any

import numpy as np
from torch import Tensor

from unrelearn.evals.published import PublishedTables, over_replicas
from unrelearn.ranges import Count


def run(evidence: PublishedTables, trees: Count, depth: Count) -> dict[str, Any]:
    """Accuracy and macro F1 of random forests, on the scale of the real training rows; beside them
    forests trained on real rows, and the commonest class. {} if no column is to be predicted.
    """
    if not evidence.target:
        return {}
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score

    inputs = [place for place in range(evidence.test.shape[1]) if place not in evidence.target]

    def parts(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        return rows[:, inputs].numpy(), rows[:, evidence.target].argmax(1).numpy()

    x, y = parts(evidence.test)

    def scores(rows: Tensor) -> tuple[float, float]:
        if not rows.isfinite().all():
            return float("nan"), float("nan")
        forest = RandomForestClassifier(trees, max_depth=depth, random_state=0)
        predicted = forest.fit(*parts(rows)).predict(x)
        accuracy = float((predicted == y).mean())
        return accuracy, float(f1_score(y, predicted, average="macro", zero_division=0))

    accuracies, f1 = zip(*map(scores, evidence.tables), strict=True)
    labels = parts(evidence.real[0])[1]
    return {
        **over_replicas(list(accuracies)),
        "f1": over_replicas(list(f1)),
        "real": dict(zip(("accuracy", "f1"), scores(evidence.real[0]), strict=True)),
        "majority": float((y == np.bincount(labels).argmax()).mean()),
    }
