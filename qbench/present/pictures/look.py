"""How pictures look: colours, shapes, axes, and the frame around the panels.

Names come from outside: no text is read as mathematics, and ``words`` takes out what would break a
line or a file. Of matplotlib's global state nothing is left changed: pictures are made one at a
time in ``drawing``, with its defaults, whatever a user's ``matplotlibrc`` says.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from qbench import __version__
from qbench.errors import UserError
from qbench.text import printable

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

ENDINGS = ("svg", "pdf", "png")
SIZE, SMALL = 8.0, 6.5
"""Points of text, and of what is less important."""
CM = 1 / 2.54
"""Inches."""
POINT = 1 / 72
DOTS_PER_INCH = 200
NARROW_CM = 12.0
"""Below this width, panels stand below each other."""
LONGEST = 48
"""Characters of a name; a longer one is cut, with dots."""
LONGEST_NARROW = 24

# The page's, in qbench/present/assets/page/page.css: Okabe and Ito's palette, paler on dark.
PALETTE = {
    False: ["#0072b2", "#d55e00", "#009e73", "#c2608f", "#b58900", "#3a3f47", "#6a5acd", "#8c564b"],
    True: ["#56b4e9", "#ff9a4d", "#2ec79a", "#e39ac5", "#f0e442", "#c9d1d9", "#8ab4ff", "#d7a48f"],
}
PARTS = {
    False: ["#3d4d66", "#7488a6", "#c2740a", "#6b8e4e"],
    True: ["#dbe4ef", "#7f90a8", "#ffb454", "#9ec27a"],
}
SCALE = {
    False: ["#f0a868", "#f5f6f8", "#7fbbe8"],
    True: ["#8a4a12", "#262c35", "#1d5a8f"],
}
"""From slower over even to faster; text is readable on all of it."""
SHAPES = ["o", "s", "D", "^", "P", "*", "v", "h", "p", "X"]
DASHES: list[Any] = [
    "-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (11, 3)), (0, (11, 2, 1.5, 2)),
    (0, (3.5, 3.5)),
]  # fmt: skip
HATCHES = ["", "////", "....", "xxxx"]


@dataclass(frozen=True)
class Look:
    """
    Attributes:
        width_cm: of the whole picture.
        dark: for a dark ground.
    """

    width_cm: float = 16.0
    dark: bool = False

    @property
    def is_narrow(self) -> bool:
        return self.width_cm < NARROW_CM

    @property
    def back(self) -> str:
        return "#14171c" if self.dark else "#ffffff"

    @property
    def text(self) -> str:
        return "#e6e9ed" if self.dark else "#1b1f24"

    @property
    def quiet(self) -> str:
        return "#9aa4b0" if self.dark else "#57606a"

    @property
    def line(self) -> str:
        return "#363d47" if self.dark else "#d5dae0"

    def colour(self, index: int) -> str:
        return pick(PALETTE[self.dark], index)

    def part(self, index: int) -> str:
        return pick(PARTS[self.dark], index)


def pick(values: Sequence[Any], index: int) -> Any:
    return values[index % len(values)]


def words(text: object, longest: int = LONGEST) -> str:
    """``text`` in one line that every format can hold, cut with dots where it is too long."""
    line = " ".join(printable(str(text)).split())
    line = "".join(
        sign for sign in line if not 0xD800 <= ord(sign) <= 0xDFFF and ord(sign) & 0xFFFE != 0xFFFE
    )
    return line if len(line) <= longest else line[: longest - 1] + "…"


def extent(text: str, size: float) -> float:
    """The width of a line of text in inches, at most: drawn small as points, it is wider."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    properties = FontProperties(size=size)
    return text_to_path.get_text_width_height_descent(text, properties, False)[0] * POINT * 1.06


def title(panel: Axes, text: object, width: float) -> None:
    """Above a panel, in at most two lines of ``width`` inches."""
    lines = wrapped(words(text, 200), SIZE, width)
    cut = [lines[0], f"{lines[1]} …"] if len(lines) > 2 else lines
    panel.set_title("\n".join(cut))


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Lines of at most ``width`` inches; a word that is longer is broken."""
    lines: list[str] = []
    for word in text.split():
        if lines and extent(f"{lines[-1]} {word}", size) <= width:
            lines[-1] += f" {word}"
        else:
            lines += _pieces(word, size, width)
    return lines


def _pieces(word: str, size: float, width: float) -> list[str]:
    """Halves, and halves of them, that fit."""
    if len(word) < 2 or extent(word, size) <= width:
        return [word]
    half = len(word) // 2
    return [*_pieces(word[:half], size, width), *_pieces(word[half:], size, width)]


# --------------------------------------------------------------------------- a picture


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def drawing(look: Look) -> Iterator[None]:
    """Within it, matplotlib draws the way all pictures are drawn.

    Raises:
        UserError: it is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise UserError(
            "pictures are drawn by matplotlib, which is not installed",
            "pip install matplotlib",
        ) from None
    with _ONE_AT_A_TIME, mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # drawn as a box
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "text.parse_math": False,  # a $ in a name is a $
                "svg.fonttype": "none",  # text stays text
                "svg.hashsalt": "qbench",  # the same picture has the same ids
                "pdf.fonttype": 42,
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib
                "font.size": SIZE,
                "axes.titlesize": SIZE,
                "axes.titlelocation": "left",
                "axes.labelsize": SIZE,
                "axes.edgecolor": look.line,
                "axes.facecolor": look.back,
                "axes.labelcolor": look.text,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": look.line,
                "grid.linewidth": 0.5,
                "hatch.linewidth": 0.6,
                "legend.frameon": False,
                "text.color": look.text,
                "xtick.color": look.line,
                "ytick.color": look.line,
                "xtick.labelcolor": look.text,
                "ytick.labelcolor": look.text,
                "xtick.labelsize": SIZE - 1,
                "ytick.labelsize": SIZE - 1,
            }
        )
        yield


class Picture:
    """A figure in the making: panels in rows, a legend above them, notes below.

    Args:
        heights_cm: of each row of panels, with titles and labels.
        columns: panels in a row.
    """

    def __init__(self, look: Look, heights_cm: Sequence[float], columns: int = 1) -> None:
        from matplotlib.figure import Figure

        self.look = look
        self.columns = columns
        self._rows = sum(heights_cm) * CM
        self.figure = Figure(layout="constrained", facecolor=look.back)
        grid = self.figure.add_gridspec(len(heights_cm), columns, height_ratios=list(heights_cm))
        self.panels: list[Axes] = [
            self.figure.add_subplot(grid[row, column])
            for row in range(len(heights_cm))
            for column in range(columns)
        ]

    @classmethod
    def grid(cls, look: Look, count: int, height_cm: float, columns: int = 2) -> Picture:
        """``count`` panels of one height."""
        columns = 1 if look.is_narrow else min(columns, count)
        rows = -(-count // columns)
        made = cls(look, [height_cm] * rows, columns)
        for spare in made.panels[count:]:
            spare.remove()
        made.panels = made.panels[:count]
        return made

    @property
    def panel_width(self) -> float:
        """Inches, labels included."""
        return self.look.width_cm * CM / self.columns

    @property
    def title_width(self) -> float:
        """Inches that the title of a panel has, right of the labels of its axis."""
        return self.panel_width - 0.75

    def finish(self, legend: Sequence[tuple[Artist, str]], notes: Sequence[str]) -> None:
        """Add what stands above and below the panels, and make room for it."""
        width = self.look.width_cm * CM
        above = self._add_legend(legend, width)
        lines = [line for note in notes for line in wrapped(note, SMALL, width - 0.1)]
        below = (len(lines) * SMALL * 1.35 + 5) * POINT if lines else 0.0
        height = above + self._rows + below
        self.figure.set_size_inches(width, height)
        engine: Any = self.figure.get_layout_engine()
        engine.set(w_pad=0.05, h_pad=0.05, rect=(0, below / height, 1, 1 - below / height))
        if lines:
            self.figure.text(
                0.05 / width, 4 * POINT / height, "\n".join(lines), fontsize=SMALL,
                color=self.look.quiet, va="bottom", ha="left", linespacing=1.25,
            )  # fmt: skip

    def _add_legend(self, entries: Sequence[tuple[Artist, str]], width: float) -> float:
        """Returns its height in inches."""
        if not entries:
            return 0.0
        widest = max(extent(label, SIZE) for _, label in entries) + 5.3 * SIZE * POINT
        columns = max(1, min(len(entries), int(width / widest)))
        self.figure.legend(
            [handle for handle, _ in entries], [label for _, label in entries],
            loc="outside upper left", ncols=columns, fontsize=SIZE, handlelength=2.8,
            columnspacing=1.2, labelspacing=0.3, borderaxespad=0.2,
        )  # fmt: skip
        return (-(-len(entries) // columns) * 1.5 * SIZE + 4) * POINT

    def content(self, ending: str, title: str) -> bytes:
        """The file, which is the same for the same picture."""
        maker = f"qbench {__version__}"
        metadata: dict[str, Any] = {
            "svg": {"Title": title, "Creator": maker, "Date": None},
            "pdf": {"Title": title, "Creator": maker, "CreationDate": None},
            "png": {"Title": title, "Software": maker},
        }
        file = BytesIO()
        self.figure.savefig(
            file, format=ending, dpi=DOTS_PER_INCH, facecolor=self.look.back,
            metadata=metadata[ending],
        )  # fmt: skip
        return file.getvalue()


# --------------------------------------------------------------------------- axes


_DIGITS = (
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9), (1, 1.5, 2, 3, 4, 5, 7),
    (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,),
)  # fmt: skip


def logarithmic(panel: Axes, axis: str, low: float, high: float, labels: int = 7) -> None:
    """A logarithmic axis over [low, high] with round numbers written out.

    Args:
        axis: "x" or "y".
        labels: how many have room.
    """
    first, last = math.log10(low), math.log10(high)
    room = max(0.03, 0.05 * (last - first))
    begin, end = low / 10**room, high * 10**room
    least = (last - first + 2 * room) / labels
    values: list[float] = []
    for digits in _DIGITS:
        powers = range(math.floor(first) - 1, math.ceil(last) + 1)
        values = [v for p in powers for d in digits if begin <= (v := float(f"{d}e{p}")) <= end]
        steps = (math.log10(b / a) for a, b in pairwise(values))
        if values and all(step >= least for step in steps):
            break
    values = values or sorted({float(f"{low:.3g}"), float(f"{high:.3g}")})
    set_scale: Callable[..., None] = getattr(panel, f"set_{axis}scale")
    set_scale("log")
    getattr(panel, f"set_{axis}lim")(begin, end)
    ticks = getattr(panel, f"{axis}axis")
    ticks.set_ticks(values, labels=[_plain(value) for value in values])
    ticks.set_ticks([], minor=True)


def _plain(value: float) -> str:
    """Without an exponent: 0.00005, 20,000."""
    return f"{value:,.12f}".rstrip("0").rstrip(".")
