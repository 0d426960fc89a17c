"""What a training would take, as tables for the terminal: shows what `CheckReport` holds and computes nothing else."""

from typing import TYPE_CHECKING

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # it belongs to a stage that loads torch
    from fcdistill.distillation.sizing.memory_check import CheckReport, DeviceNeed, ModelNeed

__all__ = ["render_check"]


def render_check(report: "CheckReport") -> Group:
    """The report as something that rich prints: models, traces, memory per device, then what speaks against it."""
    parts: list[Table | Text] = [_models(report), _tokens(report)]
    parts += [_device(need) for need in report.devices]
    parts += [Text(f"refused: {text}", style="bold red") for text in report.refused]
    parts += [Text(f"warning: {text}", style="bold yellow") for text in report.warnings]
    return Group(*parts)


def _models(report: "CheckReport") -> Table:
    table = _table("Models", "", "model", "parameters", "trained", "weights", "kept as")
    needs: list[tuple[str, ModelNeed | None]] = [("student", report.student), ("teacher", report.teacher)]
    for role, need in needs:
        if need is not None:
            kept_as = need.dtype if need.quantization == "none" else f"{need.quantization}, {need.dtype}"
            trained = f"{need.num_trained:,}" if need.num_trained else ""
            table.add_row(
                role, escape(need.model), f"{need.num_parameters:,}", trained, _size(need.weight_bytes), kept_as
            )
    return table


def _tokens(report: "CheckReport") -> Table:
    tokens = report.tokens
    table = _table("Traces", "figure", "value")
    table.add_row("examples", f"{tokens.train_examples} (and {tokens.held_out_examples} held out)")
    for name, figures in tokens.lengths.items():
        shown = ", ".join(f"{key} {value:,}" for key, value in figures.items())
        table.add_row(name.replace("_", " "), shown)
    table.add_row("tokens per step", f"{tokens.tokens_per_step:,.0f} ({tokens.unpacked_tokens_per_step:,.0f} unpacked)")
    table.add_row(
        "largest micro batch", f"{tokens.largest_batch_tokens:,} tokens, {tokens.largest_batch_rows:,} supervised"
    )
    table.add_row("optimizer steps", f"{tokens.steps:,}")
    return table


def _device(need: "DeviceNeed") -> Table:
    table = _table(f"Memory while {need.phase}, on {need.device}", "part", "size")
    for name, size in need.bytes_of.items():
        table.add_row(name, _size(size))
    verdict = {None: "not on this machine", True: "fits", False: "does not fit"}[need.fits]
    available = f" of {_size(need.available_bytes)}" if need.available_bytes is not None else ""
    table.add_row("total", f"{_size(need.total_bytes)}{available}: {verdict}", style="bold")
    return table


def _table(title: str, *head: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index < 2 else "right")
    return table


def _size(num_bytes: int) -> str:
    unit, name = (2**30, "GiB") if num_bytes >= 2**30 else (2**20, "MiB")
    return f"{num_bytes / unit:,.1f} {name}"
