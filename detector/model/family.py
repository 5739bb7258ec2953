"""The family of networks: its kinds, what each is made of in plain numbers, and which options
contradict each other. No weights, no framework.

A window is `length` ticks of `features` numbers, n windows at a time. The encoder turns the ticks
it reads into a vector (n, units[-1]); a decoder gives back the ticks of its target from it. The
error of a window is the mean squared error over the ticks of the targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from detector.core.alerts import PREDICTION, RECONSTRUCTION
from detector.errors import ArtifactError

Kind = Literal["reconstruction", "sequence", "last_step", "prediction", "composite", "dense"]
Activation = Literal["tanh", "relu"]
TargetOrder = Literal["forward", "reversed"]


@dataclass(frozen=True, slots=True)
class KindFacts:
    """What people are told of a kind, wherever they are told."""

    in_short: str
    reads: str
    gives_back: str
    vector: str
    take_it: str
    source: str


#: The one explanation of the kinds; documentation and config.yaml are generated from it.
KINDS: dict[Kind, KindFacts] = {
    "reconstruction": KindFacts(
        "the window through one vector and back",
        "the window",
        "the window, from the repeated vector",
        "one a window",
        "unless you know better: for series whose normal windows have a shape of their own",
        'Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection"',
    ),
    "sequence": KindFacts(
        "through one vector a tick",
        "the window",
        "the window, from a bottleneck that keeps the time axis: narrow in features, not in time",
        "one a tick; `encode` takes the last",
        "for many features that move together",
        "return_sequences at the bottleneck",
    ),
    "last_step": KindFacts(
        "the window's last tick from one vector",
        "the window",
        "its last tick, without a decoder",
        "one a window",
        "where speed counts and faults show in the newest tick: the cheapest recurrent kind",
        "the encoder with a dense layer",
    ),
    "prediction": KindFacts(
        "the last ticks from those before them",
        "all but the last `horizon` ticks",
        "these: a tick cannot explain itself",
        "one a window",
        "for series that follow from their past",
        'Malhotra et al. 2015, "Long Short Term Memory Networks for Anomaly Detection in Time '
        'Series"',
    ),
    "composite": KindFacts(
        "reconstruction and prediction from the same vector",
        "all but the last `horizon` ticks",
        "both parts, with a decoder each: the vector can neither just memorise nor just "
        "extrapolate",
        "one a window",
        "where neither alone will do: `(1 - w) *` reconstruction error `+ w *` prediction error, "
        "`w = prediction_weight`, each over its own mean",
        'Srivastava et al. 2015, "Unsupervised Learning of Video Representations using LSTMs"',
    ),
    "dense": KindFacts(
        "the flattened window, without recurrence (fastest)",
        "the flattened window",
        "the window, through ordinary layers",
        "none",
        "for short windows, and as a baseline",
        'Sakurada and Yairi 2014, "Anomaly Detection Using Autoencoders with Nonlinear '
        'Dimensionality Reduction"',
    ),
}

#: Kinds with a decoder for ticks the encoder has not read; kinds whose decoder is fed the vector.
_PREDICTING: tuple[Kind, ...] = ("prediction", "composite")
_REPEATING: tuple[Kind, ...] = ("reconstruction", "prediction", "composite")
#: Options that only some kinds know, with what they are where nobody says anything.
OPTIONS_OF_KINDS: dict[str, tuple[Kind, ...]] = {
    "horizon": _PREDICTING,
    "target_order": _REPEATING,
    "conditioned": _REPEATING,
    "prediction_weight": ("composite",),
}
MOST_LAYERS = 16
#: A conditioned decoder of more steps would be a graph of many thousand operators.
MOST_CONDITIONED_TICKS = 1000


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


#: Ticks at the end of a window whose error is looked at by itself.
LAST_TICKS = 4


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
    def alert_kind(self) -> str:
        """What its alerts are of. Both errors of a composite network make one score."""
        return PREDICTION if self.kind == "prediction" else RECONSTRUCTION

    @property
    def recurrent(self) -> bool:
        return self.kind != "dense"

    @property
    def inputs(self) -> int:
        """Ticks of a window that the encoder reads, the first ones."""
        ahead = self.horizon if self.kind in _PREDICTING else 0
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
    def last_ticks(self) -> int | None:
        """How many of the window's last ticks have an error of their own; None where that is the
        error of the window."""
        last = self.targets[-1].steps
        if last > LAST_TICKS:
            return LAST_TICKS
        return last if len(self.targets) > 1 else None

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


def contradiction(architecture: Architecture) -> str | None:
    """Which option of the section model contradicts the others, and how: it would be ignored, or
    leave nothing to learn. None where all is well."""
    one, length = architecture, architecture.length
    for name, kinds in OPTIONS_OF_KINDS.items():
        value, default = getattr(one, name), _DEFAULTS[name]
        if value != default and one.kind not in kinds:
            return (
                f"model.{name}: kind {one.kind} knows none, leave it at {_as_yaml(default)}; it is "
                f"for kind {_or(kinds)}, is {_as_yaml(value)}"
            )
    if one.kind in _PREDICTING and one.horizon >= length:
        return (
            f"model.horizon: must leave a tick to predict from, from 1 to {length - 1} with "
            f"window.length_ticks = {length}, is {one.horizon}"
        )
    if one.conditioned and length > MOST_CONDITIONED_TICKS:
        return (
            "model.conditioned: must be false where window.length_ticks is above "
            f"{MOST_CONDITIONED_TICKS}, it is {length}"
        )
    flat = length * one.features
    if not one.recurrent and min(one.units) >= flat:
        return (
            f"model.units: a layer of kind dense must be narrower than the window's {flat} numbers "
            f"({length} ticks of {one.features} features), the narrowest is {min(one.units)}"
        )
    return None


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _or(kinds: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))


_DEFAULTS = {
    one.name: one.default
    for one in dataclasses.fields(Architecture)
    if one.name in OPTIONS_OF_KINDS
}


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
