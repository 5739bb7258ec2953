"""The exported graphs against the networks written down from their formulas."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.engines import open_graph
from detector.model.export import classifier_graph, encoder_graph, scorer_graph
from detector.model.family import Architecture
from detector.model.scaling import fit_scaling
from detector.model.weights import DenseWeights, NetworkWeights, random_network
from tests.model import formulas
from tests.model.formulas import Array

LENGTH, FEATURES = 6, 3
CASES = formulas.architectures(LENGTH, FEATURES)
RECURRENT = {name: case for name, case in CASES.items() if case.recurrent}
CONDITIONED = {name: case for name, case in CASES.items() if case.conditioned}
DEFAULT = CASES["reconstruction"]
#: Of unequal sizes, so that a swapped axis or a missing step shows.
SCALING = Scaling(np.array([0.5, -2.0, 1e4]), np.array([0.1, 3.0, 250.0]), 4.0)
ERROR_SCALES = np.array([[0.3, 1.0, 2.5], [0.7, 0.2, 4.0]])

of_every_kind = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def weights_of(case: Architecture, spread: float = 0.25) -> NetworkWeights:
    return random_network(case, spread=spread)


def error_scale(case: Architecture) -> Array:
    return ERROR_SCALES[: len(case.targets)]


def graph_of(case: Architecture, weights: NetworkWeights | None = None) -> bytes:
    return scorer_graph(case, weights or weights_of(case), SCALING, error_scale(case))


def windows(count: int = 20, length: int = LENGTH) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    shape = (count, length, FEATURES)
    spread = random.lognormal(0, 1, (count, 1, 1))
    return (SCALING.center + SCALING.scale * spread * random.normal(size=shape)).astype(np.float32)


def session(graph: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def run(graph: bytes, x: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    engine = session(graph)
    names = [output.name for output in engine.get_outputs()]
    return dict(zip(names, engine.run(names, {"windows": x}), strict=True))


@of_every_kind
def test_the_scorer_computes_what_the_formulas_say(case: Architecture) -> None:
    weights, x = weights_of(case), windows()
    z = formulas.scaled(x, SCALING)
    said = formulas.outputs(case, weights, z)
    expected = np.concatenate([formulas.in_order(case, output) for output in said], axis=1)
    errors = formulas.errors(case, weights, z, error_scale(case))
    found = run(graph_of(case), x)
    assert found["scaled_expectation"].shape == (case.expected_ticks, len(x), FEATURES)
    time_minor = found["scaled_expectation"].transpose(1, 0, 2)
    np.testing.assert_allclose(time_minor, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["errors"], errors, rtol=1e-5, atol=1e-5)
    assert np.abs(expected).max() > 0.1, "a network of zeros would prove nothing"


@of_every_kind
def test_the_engine_explains_in_the_features_own_units(case: Architecture) -> None:
    weights, x = weights_of(case), windows()
    z = formulas.scaled(x, SCALING)
    said = formulas.outputs(case, weights, z)
    expected = np.concatenate([formulas.in_order(case, output) for output in said], axis=1)
    scorer = GraphScorer(open_graph(graph_of(case), threads=1), SCALING)
    assert (scorer.length, scorer.features) == (LENGTH, FEATURES)
    own_units = SCALING.center + SCALING.scale * SCALING.squash * np.sinh(expected / SCALING.squash)
    found = scorer.reconstruct(x)
    assert found.shape == (len(x), case.expected_ticks, FEATURES)
    np.testing.assert_allclose(found, own_units, rtol=1e-5, atol=1e-5 * SCALING.scale.max())


@pytest.mark.parametrize("case", CONDITIONED.values(), ids=CONDITIONED)
def test_a_conditioned_decoder_reads_its_own_ticks(case: Architecture) -> None:
    """And not the true ones: with these it would say something else, after the first step."""
    weights, z = weights_of(case), formulas.scaled(windows(), SCALING)
    own = formulas.outputs(case, weights, z)
    taught = formulas.outputs(case, weights, z, taught=True)
    for one, other in zip(own, taught, strict=True):
        np.testing.assert_array_equal(one[:, 0], other[:, 0])
        assert (np.abs(one - other)[:, 1:].max(axis=(0, 2), initial=0) > 1e-3).all()


@pytest.mark.parametrize("case", CONDITIONED.values(), ids=CONDITIONED)
def test_a_conditioned_decoder_that_runs_away_is_held(case: Architecture) -> None:
    """Weights a hundred times too large, a window far from all: the score is a number yet."""
    weights = random_network(case, spread=30.0)
    found = run(graph_of(case, weights), (windows() * np.float32(1e30)))
    assert np.isfinite(found["errors"]).all()
    assert np.isfinite(found["scaled_expectation"]).all()


@of_every_kind
def test_a_window_scores_the_same_to_the_last_bit_in_any_company(case: Architecture) -> None:
    engine, x = session(graph_of(case)), windows(67)
    names = [output.name for output in engine.get_outputs()]
    whole = dict(zip(names, engine.run(names, {"windows": x}), strict=True))
    for size in (1, 2, 3, 8, 33):
        parts = [engine.run(names, {"windows": x[i : i + size]}) for i in range(0, len(x), size)]
        for name, found in zip(names, zip(*parts, strict=True), strict=True):
            axis = 1 if name == "scaled_expectation" else 0
            np.testing.assert_array_equal(np.concatenate(found, axis=axis), whole[name])


@of_every_kind
def test_the_last_ticks_have_an_error_of_their_own(case: Architecture) -> None:
    found, weights = run(graph_of(case), windows()), weights_of(case)
    if case.last_ticks is None:
        assert "last_errors" not in found
        return
    z = formulas.scaled(windows(), SCALING)
    target, said = case.targets[-1], formulas.outputs(case, weights, z)[-1]
    difference = formulas.in_order(case, said) - z[:, target.start : target.start + target.steps]
    expected = np.square(difference[:, -case.last_ticks :]).mean(axis=1)
    np.testing.assert_allclose(found["last_errors"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("horizon", [1, 2, LENGTH - 1])
@pytest.mark.parametrize("conditioned", [False, True])
@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_a_prediction_does_not_know_the_ticks_it_foretells(
    horizon: int, conditioned: bool, seed: int
) -> None:
    case = dataclasses.replace(DEFAULT, kind="prediction", horizon=horizon, conditioned=conditioned)
    x = windows()
    other = x.copy()
    shape = (len(x), horizon, FEATURES)
    other[:, -horizon:] += np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)
    engine = session(graph_of(case))
    one, two = (engine.run(None, {"windows": each}) for each in (x, other))
    np.testing.assert_array_equal(one[1], two[1])
    assert (one[0] != two[0]).any()


# -- encoder


@pytest.mark.parametrize("case", RECURRENT.values(), ids=RECURRENT)
@pytest.mark.parametrize("steps", [1, LENGTH, 11])
def test_the_encoder_gives_the_last_state_of_the_bottleneck(case: Architecture, steps: int) -> None:
    weights, x = weights_of(case), windows(length=steps)
    graph = encoder_graph(case, weights, SCALING)
    lengths = np.full(len(x), steps, np.int32)
    (found,) = session(graph).run(["encoding"], {"windows": x, "lengths": lengths})
    assert found.shape == (len(x), case.units[-1])
    encoding = formulas.encoding(weights, formulas.scaled(x, SCALING))
    np.testing.assert_allclose(found, encoding, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("units", [(5,), (6, 4), (32, 16)], ids=str)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    longer=st.integers(0, 3),
    seed=st.integers(0, 2**32 - 1),
    garbage=st.sampled_from([1.0, 1e30, np.inf, np.nan]),
)
@settings(deadline=None, max_examples=60)
def test_padding_never_changes_a_vector(
    units: tuple[int, ...], lengths: list[int], longer: int, seed: int, garbage: float
) -> None:
    engine = _encoder(units)
    random = np.random.default_rng(seed)
    shape = (len(lengths), max(lengths) + longer, FEATURES)
    x = (SCALING.center + SCALING.scale * random.normal(size=shape)).astype(np.float32)
    valid = np.array(lengths, np.int32)
    padded = np.arange(shape[1]) >= valid[:, None]
    x[padded] = random.normal(size=(padded.sum(), FEATURES)) * garbage
    (together,) = engine.run(None, {"windows": x, "lengths": valid})
    for i, length in enumerate(lengths):
        own = {"windows": x[i : i + 1, :length], "lengths": valid[i : i + 1]}
        np.testing.assert_array_equal(together[i], engine.run(None, own)[0][0])


@cache
def _encoder(units: tuple[int, ...]) -> onnxruntime.InferenceSession:
    case = dataclasses.replace(DEFAULT, units=units)
    return session(encoder_graph(case, weights_of(case), SCALING))


# -- the classifier


@pytest.mark.parametrize("case", RECURRENT.values(), ids=RECURRENT)
def test_the_classifier_computes_what_the_formulas_say(case: Architecture) -> None:
    """The encoder's layers over the whole window, a dense one, softmax."""
    weights, x = weights_of(case), windows()
    kernel = np.random.default_rng(2).normal(size=(case.units[-1], 5)).astype(np.float32)
    last = DenseWeights(kernel, np.linspace(-1, 1, 5, dtype=np.float32))
    vector = formulas.encoding(weights, formulas.scaled(x, SCALING))
    powers = np.exp(formulas.dense(vector, last))
    graph = classifier_graph(case, weights.encoder, last, SCALING)
    (found,) = session(graph).run(["probabilities"], {"windows": x})
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.002, "always the same would prove nothing"


# -- the graph as such


def test_the_decoder_mirrors_the_encoder() -> None:
    def mirrored(*units: int, **kind: Any) -> tuple[int, ...]:
        return dataclasses.replace(DEFAULT, units=units, **kind).decoder_units

    assert mirrored(32, 16) == (32,)
    assert mirrored(64, 32, 16) == (32, 64)
    assert mirrored(16) == (16,)
    assert mirrored(64, 16, kind="dense") == (64,)
    assert mirrored(16, kind="dense") == ()
    assert mirrored(32, 16, kind="last_step") == ()


@of_every_kind
def test_the_floating_point_operations_are_those_of_the_matrix_products(
    case: Architecture,
) -> None:
    """Counted from the weights and how often each is used. The folded decoder needs fewer."""
    weights = weights_of(case)
    total = sum(case.inputs * 2 * (w.kernel.size + w.recurrent.size) for w in weights.encoder)
    for target, decoder in zip(case.targets, weights.decoders, strict=True):
        steps = target.steps if case.recurrent else 1
        lstm = sum(w.kernel.size + w.recurrent.size for w in decoder.lstm)
        total += 2 * steps * (lstm + sum(w.kernel.size for w in decoder.dense))
    assert case.flops_per_window() == total


@of_every_kind
def test_an_architecture_survives_its_manifest(case: Architecture) -> None:
    manifest = {
        "model": case.to_json() | {"parameters": 1},
        "window": {"length": LENGTH},
        "features": [{}] * FEATURES,
    }
    assert Architecture.from_manifest(manifest) == case


def test_a_manifest_of_the_first_models_is_a_reconstruction() -> None:
    model = {"kind": "reconstruction", "units": [6, 4], "activation": "tanh", "parameters": 1}
    manifest = {"model": model, "window": {"length": LENGTH}, "features": [{}] * FEATURES}
    assert Architecture.from_manifest(manifest) == DEFAULT


def test_a_graph_is_the_same_bytes_every_time() -> None:
    """The model's version is a hash of them."""
    weights = weights_of(DEFAULT)
    one = scorer_graph(DEFAULT, weights, SCALING, ERROR_SCALES[:1])
    assert one == scorer_graph(DEFAULT, weights_of(DEFAULT), SCALING, ERROR_SCALES[0])
    assert one != scorer_graph(DEFAULT, weights, SCALING, ERROR_SCALES[:1] * 2)


@of_every_kind
def test_graphs_keep_the_lstm_whole_and_read_in_old_engines(case: Architecture) -> None:
    weights = weights_of(case)
    graph = onnx.load_from_string(graph_of(case))
    operators = [node.op_type for node in graph.graph.node]
    whole = len(weights.encoder) + sum(len(d.lstm) for d in weights.decoders)
    if not case.conditioned or (case.activation == "tanh" and len(case.units) < 3):
        assert operators.count("LSTM") == whole
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
    scaled = scaling.apply(rows)
    assert np.isfinite(scaled).all()
    assert np.abs(scaled).max() < 100


def test_training_and_the_graph_scale_alike() -> None:
    x = windows()
    z = SCALING.squash * np.arcsinh((x - SCALING.center) / SCALING.scale / SCALING.squash)
    np.testing.assert_allclose(SCALING.apply(x), z, rtol=1e-5, atol=1e-6)
