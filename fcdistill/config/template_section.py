"""Which chat template a model gets, and the values that it is rendered with."""

from typing import Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

from fcdistill.config.section import ConfigModel

__all__ = ["KitDialect", "TemplateChoice", "TemplateValues"]

KitDialect = Literal["hermes", "pythonic"]
"""How the kit's own chat template writes calls."""

TemplateValues = dict[str, StrictBool | StrictInt | StrictFloat | StrictStr]
"""What a template is rendered with, such as `enable_thinking: false` or `reasoning_effort: low`."""


class TemplateChoice(ConfigModel):
    """A model's chat template: its own or the kit's, and the values of its switches."""

    template: Literal["own", "kit"] = Field(
        "own",
        description="own: the model's chat template, where it shows tools; kit: the kit's, for one whose calls nothing "
        "reads, or that can't write what is asked of it.",
    )
    dialect: KitDialect | None = Field(
        None,
        description="How the kit's chat template writes calls: hermes (JSON between <tool_call> tags) or pythonic "
        '([set_light(room="attic")], half as many tokens); for a model without a template that shows tools, or with '
        "template kit. Unset: hermes.",
    )
    chat_template_kwargs: TemplateValues | None = Field(
        None,
        description="Values for the switches of the chat template, such as enable_thinking or reasoning_effort; unset: "
        "as the template has them, but a student and its teacher think (enable_thinking) only with keep_thinking.",
    )
