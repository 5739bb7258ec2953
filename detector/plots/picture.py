"""Files of pictures: Matplotlib draws into them and opens no window. The ending (.png, .svg, .pdf)
chooses the format."""

from __future__ import annotations

import logging
from pathlib import Path

from matplotlib.figure import Figure

from detector.errors import UsageError

#: Told apart by people who do not see red and green alike (Okabe and Ito, 2008).
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_ENDINGS = (".png", ".svg", ".pdf")
# Else the first picture of a machine tells on stderr that fonts are being looked for.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)


def require_picture(out: Path) -> None:
    """Refuse a file that could not be written; asked before the work too."""
    if out.suffix.lower() not in _ENDINGS:
        raise UsageError(f"{out}: pictures end in {', '.join(_ENDINGS)}")
    if not out.parent.is_dir():
        raise UsageError(f"{out}: {out.parent} is no directory")


def save(figure: Figure, out: Path) -> None:
    require_picture(out)
    try:
        figure.savefig(out, dpi=150)
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}") from None


def new_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")
