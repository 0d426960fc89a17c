"""The one look of tables in the terminal; it knows nothing of what they show."""

from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from fcdistill.reporting.wording import visible

__all__ = ["rich_table"]


def rich_table(
    title: str | Text | None, head: Sequence[str], rows: Iterable[Sequence[str]], *, texts: Collection[int] = (0,)
) -> Table:
    """A table whose cells are shown as literal text.

    Args:
        title: what stands above it.
        head: a name per column.
        rows: a cell per column.
        texts: the columns that hold text; all others hold figures, which are never broken in a narrow terminal.
    """
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(head):
        is_text = number in texts
        table.add_column(name, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
