"""What a network is made of, in plain numbers: no weights, no framework.

A window is `length` ticks of `features` numbers, n windows at a time. The encoder turns the ticks
it reads into a vector (n, units[-1]); a decoder gives back the ticks of its target from it. The
error of a window is the mean squared error over the ticks of the targets.

reconstruction: reads all ticks, gives all back: (n, length, features). The repeated vector feeds
    the decoder. The default; for series whose normal windows have a shape of their own.
    Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection".
sequence: the same, but the bottleneck keeps the time axis, (n, length, units[-1]): narrow in
    features, not in time. For many features that move together.
last_step: reads all ticks, gives the last back: (n, 1, features), without a decoder. The cheapest
    recurrent kind; for faults that show in the newest tick.
prediction: reads all but the last `horizon` ticks and foretells these: (n, horizon, features).
    For series that follow from their past; a tick cannot explain itself.
    Malhotra et al. 2015, "Long Short Term Memory Networks for Anomaly Detection in Time Series".
composite: reads the same ticks and gives back both them and what follows, with a decoder each:
    (n, length, features). The vector can neither just memorise nor just extrapolate.
    Srivastava et al. 2015, "Unsupervised Learning of Video Representations using LSTMs".
dense: the flattened window, (n, length * features), through ordinary layers and back. The
    fastest; for short windows and as a baseline.
    Sakurada and Yairi 2014, "Anomaly Detection Using Autoencoders with Nonlinear Dimensionality
    Reduction".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detector.errors import ArtifactError

Kind = Literal["reconstruction", "sequence", "last_step", "prediction", "composite", "dense"]
Activation = Literal["tanh", "relu"]
TargetOrder = Literal["forward", "reversed"]


@dataclass(frozen=True, slots=True)
class Target:
    """The ticks start, start + 1 ... of a window that one decoder gives back, and their part in
    the window's error."""

    name: str  # reconstruction or prediction
    start: int
    steps: int
    weight: float = 1.0

    @property
    def span(self) -> str:
        """Its ticks for people, counted from 1."""
        first, last = self.start + 1, self.start + self.steps
        return f"tick {last}" if first == last else f"ticks {first} to {last}"


@dataclass(frozen=True, slots=True)
class Architecture:
    """One network of the family. The options mean what config.yaml says of them."""

    length: int
    features: int
    units: tuple[int, ...]
    kind: Kind = "reconstruction"
    activation: Activation = "tanh"
    horizon: int = 1
    target_order: TargetOrder = "forward"
    conditioned: bool = False
    prediction_weight: float = 0.5

    @property
    def recurrent(self) -> bool:
        return self.kind != "dense"

    @property
    def inputs(self) -> int:
        """Ticks of a window that the encoder reads, the first ones."""
        ahead = self.horizon if self.kind in ("prediction", "composite") else 0
        return self.length - ahead

    @property
    def targets(self) -> tuple[Target, ...]:
        """Of each decoder, in time."""
        if self.kind == "last_step":
            return (Target("reconstruction", self.length - 1, 1),)
        if self.kind == "prediction":
            return (Target("prediction", self.inputs, self.horizon),)
        if self.kind == "composite":
            share = self.prediction_weight
            return (
                Target("reconstruction", 0, self.inputs, 1 - share),
                Target("prediction", self.inputs, self.horizon, share),
            )
        return (Target("reconstruction", 0, self.length),)

    @property
    def expected_ticks(self) -> int:
        """How many of a window's last ticks the network says something about."""
        return sum(target.steps for target in self.targets)

    @property
    def decoder_units(self) -> tuple[int, ...]:
        """The encoder's widths backwards, without the bottleneck: [32, 16] -> (32,). A single
        LSTM layer mirrors itself: [16] -> (16,)."""
        if self.kind == "last_step":
            return ()
        mirrored = tuple(reversed(self.units[:-1]))
        return mirrored if mirrored or not self.recurrent else self.units

    @property
    def decoder_inputs(self) -> int:
        """Numbers a decoder reads at each step."""
        return self.units[-1] + (self.features if self.conditioned else 0)

    def flops_per_window(self) -> int:
        """Multiplications and additions of the matrix products of one window, those of the
        repeated vector included."""
        if not self.recurrent:
            flat = self.length * self.features
            return _dense_flops(flat, (*self.units, *self.decoder_units, flat))
        total = self.inputs * _lstm_flops(self.features, self.units)
        last = (*self.units, *self.decoder_units)[-1]
        for target in self.targets:
            step = _lstm_flops(self.decoder_inputs, self.decoder_units)
            total += target.steps * (step + _dense_flops(last, (self.features,)))
        return total

    def to_json(self) -> dict[str, Any]:
        """The section `model` of a manifest; length and features stand elsewhere in it."""
        section = dataclasses.asdict(self) | {"units": list(self.units)}
        del section["length"], section["features"]
        return section

    def by_target(self, rows: NDArray[np.float64]) -> list[float] | dict[str, list[float]]:
        """(targets, features) for a manifest: a list, or one by the name of each target."""
        lists: list[list[float]] = rows.tolist()
        if len(self.targets) == 1:
            return lists[0]
        return {t.name: row for t, row in zip(self.targets, lists, strict=True)}

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Architecture:
        """Of any model directory; the first ones knew kind, units and activation only. Raises
        ArtifactError for a kind it does not know."""
        section = manifest["model"]
        if section["kind"] not in get_args(Kind):
            raise ArtifactError(
                f"the manifest names a network of kind {section['kind']!r}, this program knows "
                f"{', '.join(get_args(Kind))}; use a newer program or train again"
            )
        names = {field.name for field in dataclasses.fields(cls)}
        given = {name: section[name] for name in names & section.keys()}
        return cls(
            length=manifest["window"]["length"],
            features=len(manifest["features"]),
            **given | {"units": tuple(section["units"])},
        )


def _lstm_flops(inputs: int, widths: tuple[int, ...]) -> int:
    total = 0
    for width in widths:
        total += 2 * (inputs + width) * 4 * width
        inputs = width
    return total


def _dense_flops(inputs: int, widths: tuple[int, ...]) -> int:
    total = 0
    for width in widths:
        total += 2 * inputs * width
        inputs = width
    return total
