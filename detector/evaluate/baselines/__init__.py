"""What a detector must beat: small methods that learn from the same normal ticks.

One file each, and one line here. A baseline takes rows of normal ticks and gives something that
scores rows; a tick's score reads no later tick.
"""

from __future__ import annotations

from detector.evaluate.baselines.contract import Fit
from detector.evaluate.baselines.isolation import fit_isolation
from detector.evaluate.baselines.last_value import fit_last_value
from detector.evaluate.baselines.moving import fit_moving
from detector.evaluate.baselines.neighbours import fit_neighbours
from detector.evaluate.baselines.principal import fit_principal
from detector.evaluate.baselines.statistics import fit_statistics

#: Name -> how it learns.
BASELINES: dict[str, Fit] = {
    "window PCA": fit_principal,
    "window statistics": fit_statistics,
    "nearest windows": fit_neighbours,
    "moving z-score": fit_moving,
    "last value": fit_last_value,
    "isolation forest": fit_isolation,
}
