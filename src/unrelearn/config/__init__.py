"""The configuration: its schema, and `validate`, which names every problem at once before anything
is computed.

`schema` has the keys with what they may be, `values`, `groups`, `rules` and `datasets` the checks,
`explain` what Hydra could not compose, `sweep` the configurations of a multirun.
"""

from unrelearn.config.classes import forget_classes
from unrelearn.config.composition import composed
from unrelearn.config.explain import explain
from unrelearn.config.groups import constructor_arguments, name_of, needs_inception
from unrelearn.config.protocol import protocol_label
from unrelearn.config.schema import Config, every_stage, to_config, with_option
from unrelearn.config.sweep import Sweep, resolved, validated
from unrelearn.config.validation import every_problem, validate

__all__ = [
    "Config",
    "Sweep",
    "composed",
    "constructor_arguments",
    "every_problem",
    "every_stage",
    "explain",
    "forget_classes",
    "name_of",
    "needs_inception",
    "protocol_label",
    "resolved",
    "to_config",
    "validate",
    "validated",
    "with_option",
]
