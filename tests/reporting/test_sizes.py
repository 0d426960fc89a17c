from rich.console import Console

from fcdistill.distillation.sizing.memory_check import CheckReport, DeviceNeed, ModelNeed, TokenFigures
from fcdistill.reporting.sizes import render_check

GIB = 2**30


def _shown(report: CheckReport) -> str:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(render_check(report))
    return capture.get()


def test_all_figures_and_verdicts_are_shown() -> None:
    lengths = {"prompt_tokens": {"min": 1, "max": 1234}, "completion_tokens": {"min": 2, "max": 20}}
    text = _shown(
        CheckReport(
            num_processes=1,
            student=ModelNeed("small[/]", 1_000_000, 5000, "bfloat16", "none", 2_000_000, True),
            teacher=ModelNeed("large", 70_000_000_000, 0, "bfloat16", "4bit", 36 * GIB, False),
            tokens=TokenFigures(90, 10, 3, lengths, 800.4, 8000.0, 512, 64, 17),
            devices=[
                DeviceNeed("training", "cpu", {"student weights": GIB // 2, "logits": 3 * GIB}, 4 * GIB, 8 * GIB, True),
                DeviceNeed("caching", "cuda:1", {"teacher weights": 36 * GIB}, 36 * GIB, None, None),
                DeviceNeed("training", "cuda:2", {"teacher weights": 36 * GIB}, 36 * GIB, 24 * GIB, False),
            ],
            refused=["no such [device]"],
            warnings=["left out"],
        )
    )
    for part in (
        "small[/]",
        "70,000,000,000",
        "4bit, bfloat16",
        "36.0 GiB",
        "90 (and 10 held out)",
        "min 1, max 1,234",
        "800 (8,000 unpacked)",
        "512.0 MiB",
        "4.0 GiB of 8.0 GiB: fits",
        "36.0 GiB: not on this machine",
        "36.0 GiB of 24.0 GiB: does not fit",
        "refused: no such [device]",
        "warning: left out",
    ):
        assert part in text, text
