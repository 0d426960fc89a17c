"""What a changed catalogue does, as a person reads it."""

import io
from collections.abc import Sequence

from rich.console import Console, Group

from fcdistill.reporting.changes import render_changes
from fcdistill.tools.catalog_diff import CatalogChange
from fcdistill.tools.revalidation import Revalidation, RowVerdict


def _shown(changes: Sequence[CatalogChange], verdicts: Sequence[RowVerdict]) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(Group(*render_changes(Revalidation(tuple(changes), tuple(verdicts), (), ()))))
    return console.export_text()


def test_nothing_changed_is_said_without_tables() -> None:
    shown = _shown([], [RowVerdict("a", "c", "fits", ("t",))])
    assert "The catalogue did not change." in shown and "1 rows: 1 fit, 0 fit but" in shown
    assert "Tools" not in shown and "Cells" not in shown


def test_changes_hits_and_broken_rows_are_named() -> None:
    change = CatalogChange("narrowed", "set_light", "room", "lost 'attic'")
    broken = [RowVerdict(f"b{n}", "cell-x", "broken", ("set_light",), "'attic' is gone\x1b[2J") for n in range(12)]
    shown = _shown([change], [*broken, RowVerdict("d", "cell-y", "doubtful", ())])
    assert "set_light.room" in shown and "lost 'attic'" in shown
    assert "12 broken, 1 doubtful" in shown and "a tool was added that might serve" in shown
    assert "cell-x" in shown and "(no call)" in shown
    assert "b9: 'attic' is gone" in shown and "b10" not in shown and "and 2 more" in shown
    assert "\x1b" not in shown
