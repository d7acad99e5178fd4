"""A table is rows of texts, the first its header. Markdown and the terminal show the same rows.

What is set in asterisks by `theirs` is somebody else's, such as a paper's number.
"""

from engine.markdown_text import Markdown, escape
from engine.terminal import printable

Table = list[list[str]]


def theirs(text: object) -> Markdown:
    """A cell that holds what somebody else found."""
    return Markdown(f"*{escape(text)}*")


def markdown_table(table: Table, texts=1) -> str:
    """The first `texts` columns are text, the others numbers, which stand to the right. Empty columns are left out."""
    kept = [number for number, column in enumerate(zip(*table, strict=True)) if any(column[1:])]
    cells = [[row[number] for number in kept] for row in table]
    header, *rows = [[cell if isinstance(cell, Markdown) else escape(cell) for cell in row] for row in cells]
    rule = ["---" if number < texts else "---:" for number in kept]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def plain_table(table: Table) -> str:
    """The same for the terminal."""
    rows = [[printable(cell.strip("*") if isinstance(cell, Markdown) else cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width)
                  for number, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )
