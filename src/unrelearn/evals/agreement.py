"""How far the two classifiers agree, and what the held-out one says of c_f (how often it sees
nothing, too) and of the retained classes.
"""

from unrelearn.evals.evidence import Evidence, accuracy, share


def run(evidence: Evidence) -> dict:
    result = {}
    for scale, seen in evidence.forget.items():
        guess = seen.held_out.argmax(1)
        result[scale] = {
            "forget": (guess == seen.predicted).double().mean().item(),
            "held_out_forget_accuracy": accuracy(guess, seen.labels),
            "held_out_nothing": share(guess == evidence.num_classes),
        }
    for scale, seen in evidence.retain.items():
        guess = seen.held_out.argmax(1)
        result[scale] = {
            **result.get(scale, {}),
            "retain": (guess == seen.predicted).double().mean().item(),
            "held_out_retain_accuracy": accuracy(guess, seen.labels),
        }
    return result
