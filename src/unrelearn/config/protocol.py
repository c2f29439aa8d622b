"""The protocol under which a number was measured."""

from typing import Any

from omegaconf import OmegaConf

from unrelearn.config.schema import leaves
from unrelearn.paths import CONF


def protocol_label(settings: dict[str, Any]) -> str:
    """The protocol's name, and in brackets each setting of it that was changed: no number goes by a
    name that is not its.
    """
    name = settings["protocol"]["name"]
    file = OmegaConf.load(CONF / "protocol" / f"{name}.yaml")
    known = dict(leaves(OmegaConf.to_container(file)))
    changed = []
    for key, value in leaves({part: settings[part] for part in ("protocol", "sampler", "model")}):
        gone = any(other.startswith(f"{key}.") for other in known)  # a part that is null here
        if gone or known.get(key, value) != value:
            changed.append(f"{key}={value}")
    return f"{name} ({', '.join(changed)})" if changed else name
