"""A configuration and a model to a candidate: all that takes time, away from the loop."""

from __future__ import annotations

from detector.build import deployed_threshold, expected_alerts, make_track, tick_format
from detector.config import Config
from detector.core.codec import Codec
from detector.model.directory import Artifact
from detector.service.exchange import Candidate


def prepare(config: Config, artifact: Artifact) -> Candidate:
    """Open its graphs and let them run once. Raises DetectorError if it cannot be used."""
    track = make_track(config, artifact)
    deployed = deployed_threshold(config, artifact.calibration, artifact.length)
    return Candidate(
        config,
        artifact,
        track,
        Codec(tick_format(config), track.features.fields),
        deployed,
        expected_alerts(config, artifact.calibration, artifact.length, deployed.threshold),
    )
