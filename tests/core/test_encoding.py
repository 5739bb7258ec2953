"""The encoder on its own: many sequences in one call, each as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core import encoding
from detector.core.encoding import CHUNK, Encoder
from detector.core.scaling import Scaling
from detector.core.ticks import Float32
from detector.engines import open_graph
from detector.model.export import encoder_graph
from detector.model.family import Architecture
from detector.model.weights import random_network

FEATURES, UNITS = 3, 4


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    case = Architecture(8, FEATURES, (6, UNITS))
    scaling = Scaling(np.zeros(FEATURES), np.ones(FEATURES), 4.0)
    return Encoder(open_graph(encoder_graph(case, random_network(case), scaling), threads=1))


def sequences(*lengths: int) -> list[Float32]:
    random = np.random.default_rng(4)
    return [random.normal(0, 2, (n, FEATURES)).astype(np.float32) for n in lengths]


def test_padding_never_changes_a_vector(encoder: Encoder) -> None:
    short = sequences(3, 1, 20, 7)
    alone = np.concatenate([encoder.encode_sequences([one]) for one in short])
    np.testing.assert_array_equal(encoder.encode_sequences(short), alone)
    beside_a_long_one = encoder.encode_sequences([*short, *sequences(500)])
    np.testing.assert_array_equal(beside_a_long_one[: len(short)], alone)
    assert np.abs(np.diff(alone, axis=0)).min() > 1e-4, "equal vectors would prove nothing"


def test_vectors_come_in_the_order_of_the_sequences_whatever_their_lengths(
    encoder: Encoder,
) -> None:
    random = np.random.default_rng(5)
    many = sequences(*random.integers(1, 12, 2 * CHUNK + 5).tolist())
    together = encoder.encode_sequences(many)
    alone = np.concatenate([encoder.encode_windows(one[None]) for one in many])
    np.testing.assert_array_equal(together, alone)


def test_long_sequences_are_not_padded_all_at_once(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory must follow the ticks there are, not the longest sequence times their number."""
    monkeypatch.setattr(encoding, "MOST_TICKS", 40)
    graph, shapes = encoder._graph, []

    class Watching:
        def run(self, names: list[str], inputs: dict[str, Float32]) -> list[Float32]:
            shapes.append(inputs["windows"].shape[:2])
            result: list[Float32] = graph.run(names, inputs)
            return result

    many = sequences(30, 3, 90, 4, 30, 10)
    expected = np.concatenate([encoder.encode_windows(one[None]) for one in many])
    monkeypatch.setattr(encoder, "_graph", Watching())
    np.testing.assert_array_equal(encoder.encode_sequences(many), expected)
    assert shapes == [(3, 10), (1, 30), (1, 30), (1, 90)]


def test_nothing_gives_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode_sequences([]).shape == (0, UNITS)
    assert encoder.encode_windows(np.empty((0, 8, FEATURES), np.float32)).shape == (0, UNITS)
