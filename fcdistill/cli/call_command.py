"""The command `call`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcdistill.cli.console import SkipInvalid, fail, print_notes, quiet_libraries
from fcdistill.errors import ConfigError

if TYPE_CHECKING:
    from fcdistill.config import LocalBackendConfig

__all__ = ["call"]


def call(
    text: Annotated[str, typer.Argument(help="What the user says.")],
    model: Annotated[str, typer.Option(help="Model reference, for example a run directory of `train`.")],
    tools: Annotated[
        str | None, typer.Option(help="Tool catalogue; default: the tools that the student was trained on.")
    ] = None,
    system: Annotated[str, typer.Option(help="Context, for example the current time.")] = "",
    template: Annotated[str, typer.Option(help="Chat template of the model: own or kit.")] = "own",
    constrained: Annotated[
        bool, typer.Option("--constrained", help="Let a grammar keep the answer to text or valid calls.")
    ] = False,
    skip_invalid: SkipInvalid = None,
) -> None:
    """Answer one request and print the call as JSON, validated; exit code 1 where it is not valid."""
    import json

    from fcdistill.backends.base import Request
    from fcdistill.config import DecodeSettings, LocalBackendConfig
    from fcdistill.records import Message
    from fcdistill.tools.catalog import catalog_from_tools, load_catalog
    from fcdistill.tools.validation import CallValidator

    if not text.strip():
        raise ConfigError("the request is empty", required="a text", fix='fcdistill call "turn on the light" ...')
    if template not in ("own", "kit"):
        raise ConfigError(f"--template {template}", required="own or kit", fix="correct it, or leave it away")
    given = load_catalog(tools, skip_invalid=bool(skip_invalid)) if tools else None
    print_notes(given.notes if given else ())
    backend, card_tools = _local_backend(
        LocalBackendConfig(model=model, template="kit" if template == "kit" else "own")
    )
    if given is None and not card_tools:
        raise ConfigError(f"model {model} knows no tools of its own", required="a catalogue", fix="give --tools FILE")
    catalog = given or catalog_from_tools(card_tools)
    context = (Message(role="system", content=system),) if system else ()
    request = Request(id="call", messages=(*context, Message(role="user", content=text)), specs=catalog.specs)
    completion = next(iter(backend.complete([request], DecodeSettings(constrained=constrained))))
    if completion.error is not None:
        fail(f"the request could not be answered: {completion.error}", 3)
    output = completion.parsed(catalog.specs)
    validator = CallValidator(catalog.specs)
    problems = [f"{error.kind}: {error.detail}" for error in output.errors]
    for made in output.calls:
        print(json.dumps(made.model_dump(), ensure_ascii=False))
        problems += [f"{made.name}{violation.pointer}: {violation.detail}" for violation in validator.check_call(made)]
    if not output.calls and not problems:
        print(output.text.strip())
    if problems:
        fail("the answer is not valid:\n  " + "\n  ".join(problems), 1)


def _local_backend(config: "LocalBackendConfig") -> tuple[Any, Any]:
    """A local backend, and the tools on its model's card."""
    quiet_libraries()
    from fcdistill.backends.local.local_backend import LocalBackend
    from fcdistill.models.loading import load_model

    loaded = load_model(
        config.model, config, dtype=config.dtype, device=config.device, template_date=config.template_date
    )
    return LocalBackend(loaded, batch_size=1), loaded.card.tools if loaded.card else ()
