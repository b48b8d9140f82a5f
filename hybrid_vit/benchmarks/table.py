"""The result of a suite: rows of numbers and spans -> text, or rows of a CSV file."""

from dataclasses import dataclass, field
from typing import Any

from hybrid_vit.benchmarks.timing import Span
from hybrid_vit.utils.tables import text_table

Row = dict[str, Any]  # column -> text, number, Span or None


@dataclass(frozen=True)
class Table:
    """What a suite measured.

    Args:
        suite: its name.
        title: what was measured, in words.
        rows: all with the same columns.
        notes: sentences below the table.
        ratio: the column that its picture shows as bars, if any.
    """

    suite: str
    title: str
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    ratio: str | None = None

    def text(self) -> str:
        """Aligned columns: the median, and in brackets the smallest and the largest."""
        columns = list(self.rows[0])
        table = text_table(columns, [[shown(row[column]) for column in columns] for row in self.rows], indent="  ")
        return "\n".join([self.title, table, *(f"  {note}" for note in self.notes)])

    def flat(self) -> list[Row]:
        """The rows for a CSV file: a span is three columns."""
        return [
            {
                name: number
                for column, value in row.items()
                for name, number in (
                    {column: value.median, f"{column}, low": value.low, f"{column}, high": value.high}
                    if isinstance(value, Span)
                    else {column: value}
                ).items()
            }
            for row in self.rows
        ]


def shown(value: Any) -> str:
    """A cell: three figures of what is not whole, a span as median (low-high)."""
    if isinstance(value, Span):
        return f"{figures(value.median)} ({figures(value.low)}-{figures(value.high)})"
    if value is None:
        return "-"
    return figures(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def figures(value: float) -> str:
    """Three significant figures, no exponent."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"
