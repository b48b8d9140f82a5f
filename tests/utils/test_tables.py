"""Tables as text and as Markdown."""

import pytest

from hybrid_vit.utils.tables import NUMBER, markdown_table, text_table

COLUMNS, ROWS = ("model", "top-1", "note"), [("a", "9.50", ""), ("longer", "10.25", "2 seeds"), ("c", "-", "")]


def test_numbers_are_aligned_to_the_right() -> None:
    assert text_table(COLUMNS, ROWS, indent="  ").splitlines() == [
        "  model   top-1  note",
        "  a        9.50",
        "  longer  10.25  2 seeds",
        "  c           -",
    ]


def test_a_table_without_names_of_columns_has_no_head() -> None:
    assert text_table(("", ""), [("steps", "3"), ("run", "x")]) == "steps  3\nrun    x"


def test_a_table_without_rows_is_its_head() -> None:
    assert text_table(("a", "b"), []) == "a  b"
    assert markdown_table(("a", "b"), []) == "| a | b |\n| --- | --- |"


def test_markdown_escapes_every_cell_and_aligns_by_what_is_meant() -> None:
    text = markdown_table(
        ("a|b", "p"), [("x|y", "<0.001")], escape=lambda cell: cell.replace("|", "\\|").replace("<", "&lt;")
    )
    assert text.splitlines() == ["| a\\|b | p |", "| --- | ---: |", "| x\\|y | &lt;0.001 |"]
    assert markdown_table(("a",), [("x|y",)]).splitlines()[2] == "| x\\|y |"


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        *((text, True) for text in ("3", "1,234", "-0.5", "+1.20 to 2.40", "3.1 ± 0.2", "1.50 (1.00-20.0)")),
        *((text, True) for text in ("<0.001", "98.61 %", "50%", "1e-05", "26.45 (n = 2: 26.3 to 26.6)")),
        *((text, False) for text in ("3 seeds", "word", "1a", "2 cores of a Xeon")),
    ],
)
def test_what_a_number_is(cell: str, number: bool) -> None:
    assert bool(NUMBER.fullmatch(cell)) == number
