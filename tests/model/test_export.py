"""The exported graphs against an LSTM written down from its formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from detector.core.scoring import OnnxScorer
from detector.model.export import (
    LstmWeights,
    NetworkWeights,
    Scaling,
    decoder_units,
    encoder_graph,
    scorer_graph,
)
from detector.model.scaling import apply_scaling, fit_scaling

Array = NDArray[np.float64]
LENGTH, FEATURES = 6, 3
STACKS = [(5,), (6, 4), (7, 5, 3), (32, 16)]
#: Of unequal sizes, so that a swapped axis or a missing step shows.
SCALING = Scaling(np.array([0.5, -2.0, 1e4]), np.array([0.1, 3.0, 250.0]), 4.0)
ERROR_SCALE = np.array([0.3, 1.0, 2.5])


def network(units: Sequence[int], activation: str, seed: int = 0) -> NetworkWeights:
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, 0.4 / np.sqrt(shape[0]), shape).astype(np.float32)

    def stack(inputs: int, widths: Sequence[int]) -> tuple[LstmWeights, ...]:
        layers = []
        for width in widths:
            layers.append(
                LstmWeights(
                    draw(inputs, 4 * width), draw(width, 4 * width), draw(4 * width), activation
                )
            )
            inputs = width
        return tuple(layers)

    mirrored = decoder_units(units)
    dense = (draw(mirrored[-1], FEATURES), draw(FEATURES))
    return NetworkWeights(stack(FEATURES, units), stack(units[-1], mirrored), dense)


def windows(count: int = 20) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    shape = (count, LENGTH, FEATURES)
    spread = random.lognormal(0, 1, (count, 1, 1))
    return (SCALING.center + SCALING.scale * spread * random.normal(size=shape)).astype(np.float32)


def lstm(sequence: Array, layer: LstmWeights) -> Array:
    """(n, length, inputs) -> (n, length, units): Hochreiter and Schmidhuber 1997 with forget
    gates, as Keras orders and applies them (input, forget, cell, output)."""
    inner = np.tanh if layer.activation == "tanh" else relu
    n, length, _ = sequence.shape
    hidden = np.zeros((n, layer.units))
    cell = np.zeros((n, layer.units))
    outputs = []
    for step in range(length):
        gates = sequence[:, step] @ layer.kernel + hidden @ layer.recurrent + layer.bias
        i, f, c, o = np.split(gates, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * inner(c)
        hidden = sigmoid(o) * inner(cell)
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


def relu(x: Array) -> Array:
    result: Array = np.maximum(x, 0)
    return result


def sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def reference(weights: NetworkWeights, x: NDArray[np.float32]) -> tuple[Array, Array, Array]:
    """(encoding, scaled reconstruction, normalised errors) in float64."""
    z: Array = SCALING.squash * np.arcsinh((x - SCALING.center) / SCALING.scale / SCALING.squash)
    hidden = z
    for layer in weights.encoder:
        hidden = lstm(hidden, layer)
    encoding = hidden[:, -1]
    hidden = np.repeat(encoding[:, None], LENGTH, axis=1)
    for layer in weights.decoder:
        hidden = lstm(hidden, layer)
    reconstruction: Array = hidden @ weights.dense[0] + weights.dense[1]
    errors: Array = ((reconstruction - z) ** 2).mean(axis=1) / ERROR_SCALE
    return encoding, reconstruction, errors


def run(graph: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"windows": x}), strict=True))


@pytest.mark.parametrize("units", STACKS, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_scorer_computes_what_the_formulas_say(units: tuple[int, ...], activation: str) -> None:
    weights, x = network(units, activation), windows()
    _, reconstruction, errors = reference(weights, x)
    found = run(scorer_graph(weights, SCALING, ERROR_SCALE, length=LENGTH), x)
    assert found["scaled_reconstruction"].shape == (LENGTH, len(x), FEATURES)
    time_minor = found["scaled_reconstruction"].transpose(1, 0, 2)
    np.testing.assert_allclose(time_minor, reconstruction, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["errors"], errors, rtol=1e-5, atol=1e-5)
    assert np.abs(reconstruction).max() > 0.1, "a network of zeros would prove nothing"


@pytest.mark.parametrize("units", STACKS, ids=str)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_encoder_gives_the_last_state_of_the_bottleneck(
    units: tuple[int, ...], activation: str
) -> None:
    weights, x = network(units, activation), windows()
    encoding, _, _ = reference(weights, x)
    found = run(encoder_graph(weights, SCALING, length=LENGTH), x)["encoding"]
    assert found.shape == (len(x), units[-1])
    np.testing.assert_allclose(found, encoding, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_engine_explains_in_the_features_own_units(activation: str) -> None:
    weights, x = network((6, 4), activation), windows()
    _, reconstruction, errors = reference(weights, x)
    scorer = OnnxScorer(
        scorer_graph(weights, SCALING, ERROR_SCALE, length=LENGTH),
        threads=1,
        center=SCALING.center,
        scale=SCALING.scale,
        squash=SCALING.squash,
    )
    assert (scorer.length, scorer.features) == (LENGTH, FEATURES)
    np.testing.assert_allclose(scorer.errors(x), errors, rtol=1e-5, atol=1e-5)
    own_units = SCALING.center + SCALING.scale * SCALING.squash * np.sinh(
        reconstruction / SCALING.squash
    )
    np.testing.assert_allclose(
        scorer.reconstruct(x), own_units, rtol=1e-5, atol=1e-5 * SCALING.scale.max()
    )


def test_the_decoder_mirrors_the_encoder() -> None:
    assert decoder_units((32, 16)) == (32,)
    assert decoder_units((64, 32, 16)) == (32, 64)
    assert decoder_units((16,)) == (16,)


def test_a_graph_is_the_same_bytes_every_time() -> None:
    """The model's version is a hash of them."""
    weights = network((6, 4), "tanh")
    one = scorer_graph(weights, SCALING, ERROR_SCALE, length=LENGTH)
    assert one == scorer_graph(network((6, 4), "tanh"), SCALING, ERROR_SCALE, length=LENGTH)
    assert one != scorer_graph(weights, SCALING, ERROR_SCALE * 2, length=LENGTH)


def test_graphs_keep_the_lstm_whole_and_read_in_old_engines() -> None:
    graph = onnx.load_from_string(
        scorer_graph(network((6, 4), "tanh"), SCALING, ERROR_SCALE, length=LENGTH)
    )
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count("LSTM") == 3
    assert not {"Loop", "Scan", "If"} & set(operators)
    assert graph.ir_version <= 9
    assert [o.version for o in graph.opset_import] == [18]


# -- scaling


def test_scaling_ignores_outliers() -> None:
    random = np.random.default_rng(2)
    rows = random.normal(10, 2, (10_000, 1)).astype(np.float32)
    rows[:5] = 1e9
    scaling, constant = fit_scaling(rows, squash=4.0)
    assert scaling.center[0] == pytest.approx(10, abs=0.1)
    assert scaling.scale[0] == pytest.approx(2, rel=0.05)
    assert constant == []


@pytest.mark.parametrize(
    ("column", "constant"),
    [
        (np.zeros(1000), True),
        (np.full(1000, 1e6), True),
        (np.full(1000, -0.001), True),
        (np.arange(1000) == 500, False),
        (np.arange(1000) < 30, False),
        (np.random.default_rng(3).pareto(0.5, 1000), False),
        (np.random.default_rng(3).normal(1e6, 1, 1000), False),
        (np.append(np.ones(999), np.nextafter(np.float32(1), np.float32(2))), False),
    ],
)
def test_every_feature_has_a_scale_that_keeps_it_in_reach(
    column: NDArray[Any], constant: bool
) -> None:
    rows = column.astype(np.float32)[:, None]
    scaling, found = fit_scaling(rows, squash=4.0)
    assert found == ([0] if constant else [])
    assert np.isfinite(scaling.scale).all()
    assert (scaling.scale > 0).all()
    scaled = apply_scaling(rows, scaling)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() < 100


def test_training_and_the_graph_scale_alike() -> None:
    x = windows()
    z = SCALING.squash * np.arcsinh((x - SCALING.center) / SCALING.scale / SCALING.squash)
    np.testing.assert_allclose(apply_scaling(x, SCALING), z, rtol=1e-5, atol=1e-6)
