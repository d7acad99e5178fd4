"""How every figure and every table looks: colours, a sheet with title and panels; rows, for Markdown and a terminal.

Colours are Okabe and Ito's, which colour-blind people can tell apart. matplotlib is imported where it draws: who only
checks names need not wait for it.

A table is rows of texts, the first its header. A word of a folder, a config or a file goes through `escape`; a text
that is Markdown already is a `Markdown`, as what `theirs` sets in asterisks: somebody else's, a paper's number.
"""

import contextlib
import html
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.errors import InputError
from engine.files import written_whole
from engine.terminal import printable, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLACK, GREY = "#222222", "#767676"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
LETTER, LINE, TITLE = 0.075, 0.15, 0.28  # inches: width of a letter, height of a line, of a panel's title
_SIGNS = re.compile(r"[\\`*\[\]|~#$]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)")  # an address is no link either
# The longest label at the end of a line, label of a legend, and text that a sheet has room for.
LABEL_LETTERS, LEGEND_LETTERS, TEXT_LETTERS = 44, 80, 800
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9, "text.color": BLACK, "axes.labelcolor": BLACK, "axes.edgecolor": GREY, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": GREY, "ytick.color": GREY,
    "xtick.labelcolor": BLACK, "ytick.labelcolor": BLACK, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e4e4e4", "grid.linewidth": 0.7, "axes.axisbelow": True,
    "lines.linewidth": 1.7, "lines.markersize": 5.5, "legend.frameon": False, "legend.fontsize": 8.5,
    "axes.titlesize": 9, "axes.titleweight": "bold", "svg.hashsalt": "group normalization", "savefig.dpi": 200,
    "text.parse_math": False,  # a $ in somebody's name is a $
}

# Class names may be in any script; matplotlib's own font, which comes first, has no Chinese, Japanese or Korean.
FONTS = (
    STYLE["font.family"], "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "SimHei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Noto Sans CJK JP", "Droid Sans Fallback",
    "Arial Unicode MS",
)


def fonts_for_names() -> list[str]:
    """Families for the names of classes, in the order of choice: those of FONTS that are on this machine."""
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    return [name for name in FONTS if name in here]


@contextlib.contextmanager
def drawing_style() -> Iterator[None]:
    """Inside it all is drawn and saved alike, whatever the user's own matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def check_target(path: str | Path) -> Path:
    """The path of a figure to be written, whose folder is made. Raises InputError where that cannot be."""
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise InputError(f"{path}: expected a file that ends in .png or .svg")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made ({error.strerror})") from None
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file")
    return path


def save_figure(figure: "Figure", path: Path) -> None:
    """Write PNG, SVG or JPEG by the path's suffix, as a whole or not at all; the same figure gives the same bytes."""
    kind = path.suffix[1:]
    with written_whole(path) as part, drawing_style():
        more = {"svg": {"metadata": {"Date": None}}, "jpg": {"pil_kwargs": {"quality": 90}}}.get(kind, {})
        figure.savefig(part, format=kind, **more)


def short_label(text: str) -> str:
    """A label as a sheet has room for it."""
    return shortened(text, LABEL_LETTERS)


def legend_label(text: str) -> str:
    """A label as a legend has room for it."""
    return shortened(text, LEGEND_LETTERS)


def heading(figure: "Figure", title: str, text: str) -> None:
    """Title and smaller text at the upper left of a figure."""
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.1 / height, title, fontsize=11, fontweight="bold", va="top")
    figure.text(0.1 / width, 1 - 0.34 / height, text, fontsize=7.5, color=GREY, va="top", linespacing=1.35)


def sheet(
    title: str, lines: Iterable[str], titles: Sequence[str] = ("",), *, labels: Iterable[str] = (),
    legend: Sequence[str] = (), left: float = 0.62, sharex: bool = True, more: float = 0.0,
) -> tuple["Figure", np.ndarray]:
    """A figure with title and lines of text above a panel for each of `titles`, and room for labels or a legend.

    left: inches left of the panels; more: by which each is higher than others. Panels always share their y axis.
    -> (Figure, its axes).
    """
    from matplotlib.figure import Figure

    text = "\n".join(textwrap.fill(shortened(line, TEXT_LETTERS), 128) for line in lines)
    labels = list(map(short_label, labels))
    columns = {1: 1, 2: 2, 4: 2}.get(len(titles), 3)
    rows = math.ceil(len(titles) / columns)
    width, gap, below = 7.4, 0.25, 0.5  # inches
    right = 0.15 + LETTER * max(map(len, labels), default=0)
    panel_width = (width - left - right - gap * (columns - 1)) / columns
    titles = [textwrap.fill(shortened(title, 3 * LABEL_LETTERS), int(panel_width / LETTER)) for title in titles]
    title_height = TITLE + LINE * max(title.count("\n") for title in titles)
    between = below + title_height
    above = 0.68 + 0.14 * text.count("\n") + (title_height - 0.1 if any(titles) else 0)
    above += 0.2 * legend_shape(legend)[0] if legend else 0
    panel_height = {1: 3.3, 2: 2.9}.get(columns, 2.3) + more
    height = above + rows * panel_height + (rows - 1) * between + below
    figure = Figure(figsize=(width, height))
    heading(figure, title, text)
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=True, squeeze=False).ravel()
    figure.subplots_adjust(
        left=left / width, right=1 - right / width, bottom=below / height, top=1 - above / height,
        wspace=gap / panel_width, hspace=between / panel_height,
    )
    for number, panel in enumerate(axes[:len(titles)]):
        panel.set_title(titles[number], loc="left")
        panel.tick_params(left=number % columns == 0, labelbottom=True)
    for unused in axes[len(titles):]:
        unused.remove()
    return figure, axes[:len(titles)]


def legend_shape(labels: Iterable[str]) -> tuple[int, int]:
    """(rows, columns) of a legend as wide as a figure."""
    widths = [0.6 + LETTER * len(legend_label(label)) for label in labels]
    columns = len(widths) if sum(widths) < 6.6 else max(1, int(6.6 / max(widths)))
    return math.ceil(len(widths) / columns), columns


Table = list[list[str]]


class Markdown(str):
    """A text whose signs are meant as Markdown's."""


def escape(text: object) -> Markdown:
    """A text as Markdown that shows it, on one line, letter by letter."""
    shown = html.escape(printable(str(text)), quote=False)
    return Markdown(_SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", shown))


def code(text: str) -> Markdown:
    """A name as code; as it is where it has letters that code would not show."""
    if re.fullmatch(r"[\w .,:=+/@%-]+", text):
        return Markdown(f"`{text}`")
    return Markdown(f"&#{ord(text[0])};{escape(text[1:])}")  # a dash at the beginning would make a list


def theirs(text: object) -> Markdown:
    """A cell that holds what somebody else found."""
    return Markdown(f"*{escape(text)}*")


def markdown_table(table: Table, texts: int = 1) -> str:
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
