"""Which field of the configuration each flag of a command overrides: the one that it is named for.

Typer takes a command's options from its signature and keeps their values in its context, where they are read by this
table. What else a command is told, such as where to write a baseline, is no field and not listed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fcdistill.config.config_file import Section

__all__ = ["FLAGS", "given_flags"]

FLAGS: "dict[Section, tuple[str, ...]]" = {
    "eval": (
        "predictions",
        "cases",
        "cases_format",
        "suite",
        "tools",
        "skip_invalid",
        "out",
        "limit",
        "repeat",
        "default_equals_omitted",
        "model.model",
        "model.tools_in_prompt",
        "model.template",
        "model.batch_size",
        "decode.sampling_temperature",
        "decode.constrained",
        "gate.baseline",
        "gate.min_accuracy",
        "gate.max_drop",
        "gate.alpha",
        "gate.allow_mismatch",
    ),
    "generate": ("skip_invalid", "recorded", "shard", "rounds", "ray", "verification.policy"),
}
"""By section, the fields that have a flag: `model.batch_size` has `--batch-size`."""


def given_flags(section: "Section", parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the flags that were given, by the dotted names of their fields; a flag that repeats gives a list.

    Args:
        section: the section that the command reads.
        parameters: of the command, by name; None, or no values, where one is not given.
    """
    values = {field: parameters[field.rpartition(".")[2]] for field in FLAGS[section]}
    given = {field: list(value) if isinstance(value, tuple) else value for field, value in values.items()}
    return {field: value for field, value in given.items() if value is not None and value != []}
