"""What a threshold can promise, in plain words."""

from __future__ import annotations

from detector.core.thresholds.calibration import Calibration

#: Independent stretches of held-out time from which on a tail can be believed.
_ENOUGH = 20


def promise(calibration: Calibration, threshold: float) -> str:
    """Of a threshold on evidence: how rare a normal window above it is, and how far beyond the
    held-out ones that reaches."""
    tail, windows = calibration.tail, calibration.tail.windows
    rarity = 10.0 ** min(threshold, 300.0)
    text = f"one normal window in {_number(rarity)}"
    if rarity <= windows:
        return f"{text}, as among the {_number(windows)} held-out ones"
    stretches = "one stretch" if tail.clusters == 1 else f"{tail.clusters} separate stretches"
    text += (
        f"; beyond the {_number(windows)} held-out ones by a factor of "
        f"{_number(rarity / windows)}: extrapolated from their highest, in {stretches} of time"
    )
    if tail.clusters < _ENOUGH:
        text += ": a guess; more training ticks make it firmer, a larger budget needs less of it"
    return text


def _number(value: float) -> str:
    return f"{value:,.0f}" if 1 <= value < 1e9 else f"{value:.2g}"
