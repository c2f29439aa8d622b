"""The protocol under which a number was measured."""

from typing import Any

from unrelearn.config.schema import file_of, leaves


def protocol_label(settings: dict[str, Any]) -> str:
    """The protocol's name, and in brackets each setting of it that was changed: no number goes by a
    name that is not its.
    """
    name = settings["protocol"]["name"]
    known = dict(leaves(file_of("protocol", name)))
    changed = []
    classifies = settings["model"].get("network") is not None
    parts = ("protocol", "validation") if classifies else ("protocol", "sampler", "model")
    for key, value in leaves({part: settings[part] for part in parts if part in settings}):
        gone = any(other.startswith(f"{key}.") for other in known)  # a part that is null here
        if gone or known.get(key, value) != value:
            changed.append(f"{key}={value}")
    return f"{name} ({', '.join(changed)})" if changed else name
