"""Draws `docs/images/overview.svg`: what goes in, the three stages, what comes out.

    python docs/draw.py

The picture carries its own background and two sets of colours, so that it can be read in a light and a dark page. It
is drawn with the standard library alone; a test fails where the file differs from what this command draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

__all__ = ["PICTURE", "draw"]

PICTURE = Path(__file__).parent / "images" / "overview.svg"

_WIDTH, _HEIGHT = 1000, 456
_LINE = 19
"""Distance of two lines of text."""
_STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; fill: #1f2937; }
  .page { fill: #ffffff; stroke: #d1d5db; }
  .title { font-size: 16px; font-weight: 700; }
  .code { font-family: ui-monospace, "SF Mono", Menlo, "Liberation Mono", monospace; font-size: 13px; }
  .quiet { fill: #6b7280; }
  .input { fill: #f3f4f6; stroke: #9ca3af; }
  .teacher { fill: #fef3c7; stroke: #d97706; }
  .stage { fill: #dbeafe; stroke: #2563eb; }
  .output { fill: #dcfce7; stroke: #16a34a; }
  .arrow { fill: none; stroke: #4b5563; stroke-width: 1.8; }
  .dashed { stroke-dasharray: 5 4; }
  .head { fill: #4b5563; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb; }
    .page { fill: #0d1117; stroke: #374151; }
    .quiet { fill: #9ca3af; }
    .input { fill: #1f2937; stroke: #6b7280; }
    .teacher { fill: #3b2a0a; stroke: #f59e0b; }
    .stage { fill: #11284f; stroke: #60a5fa; }
    .output { fill: #0f2f1c; stroke: #4ade80; }
    .arrow { stroke: #9ca3af; }
    .head { fill: #9ca3af; }
  }
"""


@dataclass(frozen=True)
class _Box:
    """A card of text.

    Attributes:
        kind: its class in the style sheet.
        x: left edge, as the others in pixels.
        y: upper edge.
        width: of the card; its height is that of its text.
        title: the first line.
        lines: the others; `code:` before one sets it in a fixed width, `quiet:` in grey.
    """

    kind: str
    x: int
    y: int
    width: int
    title: str
    lines: Sequence[str]

    @property
    def height(self) -> int:
        return 44 + _LINE * len(self.lines)

    def svg(self) -> Iterator[str]:
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        yield f'<rect class="{self.kind}" {place} rx="9"/>'
        yield _text(self.x + 14, self.y + 26, self.title, "title")
        for number, line in enumerate(self.lines, 1):
            style, _, text = line.rpartition(":") if line.startswith(("code:", "quiet:")) else ("", "", line)
            yield _text(self.x + 14, self.y + 28 + number * _LINE, text, style)


_TOOLS = _Box("input", 24, 153, 186, "Your tools", (
    "code:tools.json", "OpenAI, MCP or Python", "quiet:+ optional requests,", "quiet:values and examples",
))  # fmt: skip
_CASES = _Box("input", 24, 330, 186, "Your test cases", ("code:cases.jsonl", "requests and right calls"))
_TEACHER = _Box("teacher", 270, 28, 450, "Teacher", ("a large model: here, or behind an OpenAI-style API",))
_GENERATE = _Box("stage", 270, 162, 196, "generate", (
    "traces, each one checked:", "call form, schema, and", "values said in the text",
))  # fmt: skip
_TRAIN = _Box("stage", 524, 162, 196, "train", ("cross-entropy, soft labels,", "hidden states; LoRA or", "all weights"))
_EVAL = _Box("stage", 778, 162, 198, "eval", (
    "exact calls, intervals,", "kinds of errors, a gate", "against a baseline",
))  # fmt: skip
_TRACES = _Box("output", 270, 330, 196, "Traces", ("code:traces.jsonl", "code:rejects.jsonl"))
_STUDENT = _Box("output", 524, 330, 196, "Small student", ("calls exactly your tools,", "on your own hardware"))
_REPORT = _Box("output", 778, 330, 198, "Report", ("code:report.html", "exit code 0 or 1 for CI"))
_BOXES = (_TOOLS, _CASES, _TEACHER, _GENERATE, _TRAIN, _EVAL, _TRACES, _STUDENT, _REPORT)


def draw() -> str:
    """The picture as SVG text."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        "<title>Tools and a teacher go into generate; its traces go into train; the student goes into eval.</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="head" d="M0 0L10 5L0 10z"/></marker></defs>',
        f'<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="12"/>',
    ]
    for box in _BOXES:
        parts += box.svg()
    stages, outputs = (box.y + box.height // 2 for box in (_GENERATE, _TRACES))
    below_teacher, below_stages = (box.y + box.height for box in (_TEACHER, _TRAIN))
    parts += [
        _arrow(f"M210 {stages}H268"),
        _arrow(f"M368 {below_teacher}V{_GENERATE.y - 2}"),
        _text(378, 130, "writes and answers"),
        _arrow(f"M622 {below_teacher}V{_TRAIN.y - 2}", "dashed"),
        _text(632, 120, "its probabilities"),
        _text(632, 120 + _LINE, "(optional)", "quiet"),
        *(_arrow(f"M{x} {below_stages}V{_TRACES.y - 2}") for x in (368, 622, 877)),
        _arrow(f"M466 {outputs}H495V{stages}H522"),
        _arrow(f"M720 {outputs}H749V{stages}H776"),
        _arrow(f"M210 {outputs}H240V434H749V{stages}H776"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: int, y: int, text: str, style: str = "") -> str:
    marked = f' class="{style}"' if style else ""
    return f'<text{marked} x="{x}" y="{y}">{escape(text)}</text>'


def _arrow(path: str, style: str = "") -> str:
    return f'<path class="{f"arrow {style}".strip()}" d="{path}" marker-end="url(#head)"/>'


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
    print(PICTURE)
