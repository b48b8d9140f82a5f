"""Tables: columns and rows of text -> aligned plain text, or Markdown. Columns of numbers are aligned to the right."""

import re
from collections.abc import Callable, Sequence

# A number, perhaps with a sign, a unit and an interval: 3, <0.001, 12 %, +1.20 to 2.40, 3.1 ± 0.2, 1.5 (1.0-20.0)
NUMBER = re.compile(r"[<±+-]?\s?\d[\d,.]*(e[+-]?\d+)?( ?%)?( (±|to|\().*)?")
EMPTY = ("", "-")


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, indent: str = "") -> str:
    """Plain text: a line with the names of the columns, unless all are empty, and a line for each row."""
    right = numeric_columns(columns, rows)
    lines = [columns, *rows] if any(columns) else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join((indent + "  ".join(map(aligned, line, widths, right))).rstrip() for line in lines)


def piped(cell: str) -> str:
    """A cell of Markdown in which a | is text."""
    return cell.replace("|", r"\|")


def markdown_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, escape: Callable[[str], str] = piped
) -> str:
    """Markdown; `escape` is applied to each cell."""
    rules = ["---:" if right else "---" for right in numeric_columns(columns, rows)]
    lines = [[*map(escape, columns)], rules, *([*map(escape, row)] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[bool]:
    """For each column whether all of its cells that are not empty are numbers."""
    cells = [[row[i] for row in rows if row[i] not in EMPTY] for i in range(len(columns))]
    return [bool(column) and all(map(NUMBER.fullmatch, column)) for column in cells]


def aligned(cell: str, width: int, right: bool) -> str:
    """A cell, filled with spaces."""
    return cell.rjust(width) if right else cell.ljust(width)
