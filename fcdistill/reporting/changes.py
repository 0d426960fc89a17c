"""What a changed catalogue does to traces or eval cases, as text for the terminal."""

from collections import Counter
from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from fcdistill.reporting.terminal import rich_table
from fcdistill.reporting.wording import visible
from fcdistill.tools.catalog_diff import CatalogChange
from fcdistill.tools.revalidation import Revalidation

__all__ = ["render_changes"]

_MOST_CELLS = 20
_MOST_BROKEN = 10
_STATES = {
    "fits": "fit",
    "stale": "fit but show the old tools",
    "renamed": "need new names",
    "broken": "broken",
    "doubtful": "doubtful",
}
_HIT = ("broken", "renamed", "doubtful")


def render_changes(found: Revalidation) -> list[Text | Table]:
    """The differences, the rows per state, the tools and cells that are hit, and the first broken rows."""
    parts: list[Text | Table] = []
    if found.changes:
        rows = [(change.kind, _place(change), change.detail) for change in found.changes]
        parts.append(rich_table("Changes of the catalogue", ("what", "where", "detail"), rows, texts=range(3)))
    else:
        parts.append(Text("The catalogue did not change."))
    states = found.states
    counted = ", ".join(f"{states[name]} {wording}" for name, wording in _STATES.items())
    parts.append(Text(f"{len(found.verdicts)} rows: {counted}."))
    if states["doubtful"]:
        parts.append(Text("Doubtful rows answer without a call, and a tool was added that might serve their requests."))
    parts += _hits("Tools that are hit", found.hit("tools"))
    parts += _hits("Cells that are hit", found.hit("cell"))
    broken = [verdict for verdict in found.verdicts if verdict.state == "broken"]
    if broken:
        lines = [f"  {verdict.id}: {verdict.detail}" for verdict in broken[:_MOST_BROKEN]]
        if len(broken) > _MOST_BROKEN:
            lines.append(f"  and {len(broken) - _MOST_BROKEN} more")
        parts.append(Text(visible("\n".join(lines))))
    return parts


def _place(change: CatalogChange) -> str:
    return f"{change.tool}.{change.parameter}" if change.parameter else change.tool


def _hits(title: str, counts: Mapping[str, Counter[str]]) -> list[Text | Table]:
    if not counts:
        return []
    rows = [(name or "(no call)", *(str(states[state]) for state in _HIT)) for name, states in counts.items()]
    shown = title if len(rows) <= _MOST_CELLS else f"{title} ({_MOST_CELLS} of {len(rows)}, most hit first)"
    return [rich_table(shown, (title.split()[0].lower(), *_HIT), rows[:_MOST_CELLS])]
