"""Before a model takes the place of another: whether it can, and what would come of it."""

from __future__ import annotations

from dataclasses import dataclass

from detector.build import deployed_threshold, make_track
from detector.config import Config
from detector.core.exchange import Continuity, continuity
from detector.model.directory import Artifact


@dataclass(frozen=True, slots=True)
class Examined:
    """goes_on: None where there is no model yet."""

    model: str
    before: str | None
    threshold: float
    fell_back: str
    goes_on: Continuity | None

    def words(self) -> str:
        return "the first model" if self.goes_on is None else self.goes_on.words()


def examine(config: Config, candidate: Artifact, current: Artifact | None) -> Examined:
    """Opens the candidate as a daemon of this configuration would. Raises DetectorError if it
    cannot be used."""
    track = make_track(config, candidate)
    deployed = deployed_threshold(config, candidate.calibration, candidate.length)
    goes_on = None if current is None else continuity(make_track(config, current), track)
    return Examined(
        candidate.version,
        None if current is None else current.version,
        deployed.threshold,
        deployed.words(candidate.calibration) if deployed.fell_back else "",
        goes_on,
    )
