"""What a model may forget besides classes: words that name images one by one."""

KINDS = {
    "random": "random:0.1",
    "class": "class:0",
    "file": "file:/path.npy",
    "memorised": "memorised:0.1",
    "mislabelled": "mislabelled:0.02",
}


def names_examples(forget: object) -> bool:
    """Whether a value of `forget` is KIND:VALUE, rather than classes."""
    return isinstance(forget, str) and forget.partition(":")[0] in KINDS and ":" in forget


def names_images(forget: object) -> bool:
    """Whether it names images one by one, and not all of a class."""
    return names_examples(forget) and not str(forget).startswith("class:")
