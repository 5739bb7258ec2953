"""The native engine against the formulas, against ONNX Runtime, alone and in company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.scaling import Scaling
from detector.engines import open_graph
from detector.engines.native import WHY_NOT, NativeGraph, instruction_sets
from detector.engines.onnx_runtime import OnnxRuntimeGraph
from detector.model.export import classifier_graph, encoder_graph, scorer_graph
from detector.model.family import Architecture
from detector.model.views import fit_views
from detector.model.views.view import Normal, View
from detector.model.weights import DenseWeights, random_network
from tests.model import formulas

pytestmark = pytest.mark.skipif(not instruction_sets(), reason=WHY_NOT)

LENGTH, FEATURES = 6, 3
CASES = formulas.architectures(LENGTH, FEATURES)
SCALING = Scaling(np.array([0.5, -2.0, 1e4]), np.array([0.1, 3.0, 250.0]), 4.0)
ERROR_SCALES = np.array([[0.3, 1.0, 2.5], [0.7, 0.2, 4.0]])

on_each = pytest.mark.parametrize("instructions", instruction_sets())
of_every_kind = pytest.mark.parametrize("case", CASES.values(), ids=CASES)

Float32 = NDArray[np.float32]


def windows(count: int, scaling: Scaling = SCALING, length: int = LENGTH, seed: int = 1) -> Float32:
    random = np.random.default_rng(seed)
    shape = (count, length, len(scaling.center))
    spread = random.lognormal(0, 1, (count, 1, 1))
    found = scaling.center + scaling.scale * spread * random.normal(size=shape)
    return found.astype(np.float32)


def graph_of(
    case: Architecture, scaling: Scaling = SCALING, *, views: bool, seed: int = 0
) -> bytes:
    network = random_network(case, spread=0.25, seed=seed)
    scale = np.resize(ERROR_SCALES, (len(case.targets), case.features))
    found: tuple[View, ...] = ()
    if views:
        normal = windows(40, scaling, case.length, seed=9)
        last = None if case.last_ticks is None else np.square(normal[:, -1])
        found = fit_views(Normal(scaling.apply(normal), last))
    return scorer_graph(case, network, scaling, scale, found)


def run_all(graph: Any, x: Float32) -> dict[str, NDArray[Any]]:
    return dict(zip(graph.outputs, graph.run(list(graph.outputs), {"windows": x}), strict=True))


@on_each
@of_every_kind
def test_it_computes_what_the_formulas_say(case: Architecture, instructions: str) -> None:
    """In double precision, step by step: the errors to one in a hundred thousand."""
    weights, x = random_network(case, spread=0.25), windows(83)
    z = formulas.scaled(x, SCALING)
    said = formulas.outputs(case, weights, z)
    expected = np.concatenate([formulas.in_order(case, output) for output in said], axis=1)
    errors = formulas.errors(case, weights, z, ERROR_SCALES[: len(case.targets)])
    graph = NativeGraph(graph_of(case, views=False), threads=1, instructions=instructions)
    found = run_all(graph, x)
    assert found["scaled_expectation"].shape == (case.expected_ticks, len(x), FEATURES)
    time_minor = found["scaled_expectation"].transpose(1, 0, 2)
    np.testing.assert_allclose(time_minor, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(found["errors"], errors, rtol=1e-5, atol=1e-9)


@on_each
@pytest.mark.parametrize("views", [False, True])
@of_every_kind
def test_a_window_alone_is_as_among_others_to_the_last_bit(
    case: Architecture, instructions: str, views: bool
) -> None:
    graph = NativeGraph(graph_of(case, views=views), threads=1, instructions=instructions)
    x = windows(150)
    whole = run_all(graph, x)
    for size in (1, 2, 15, 16, 17, 41, 64):
        parts = [run_all(graph, x[i : i + size]) for i in range(0, len(x), size)]
        for name, found in whole.items():
            axis = 1 if name == "scaled_expectation" else 0
            again = np.concatenate([part[name] for part in parts], axis=axis)
            assert again.tobytes() == found.tobytes(), (name, size)


@on_each
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_make_no_difference(instructions: str, threads: int) -> None:
    case = CASES["reconstruction, wide"]
    one, several = (
        NativeGraph(graph_of(case, views=True), threads=n, instructions=instructions)
        for n in (1, threads)
    )
    for count in (1, 64, 65, 128, 500):
        x = windows(count)
        for name, found in run_all(one, x).items():
            assert run_all(several, x)[name].tobytes() == found.tobytes(), (name, count)


def test_one_set_of_outputs_is_as_another() -> None:
    """What nobody asks for is not computed; what is asked for is the same."""
    graph = NativeGraph(graph_of(CASES["reconstruction"], views=True), threads=1)
    x = windows(20)
    for name, found in run_all(graph, x).items():
        assert graph.run([name], {"windows": x})[0].tobytes() == found.tobytes(), name


ARCHITECTURES = st.builds(
    Architecture,
    length=st.integers(2, 12),
    features=st.integers(1, 9),
    units=st.lists(st.integers(1, 37), min_size=1, max_size=3).map(tuple),
    kind=st.sampled_from(("reconstruction", "sequence", "last_step", "prediction", "composite")),
    activation=st.sampled_from(("tanh", "relu")),
)


@st.composite
def cases(draw: st.DrawFn) -> Architecture:
    case = draw(ARCHITECTURES)
    options: dict[str, Any] = {}
    if case.kind in ("reconstruction", "prediction", "composite"):
        options["conditioned"] = draw(st.booleans())
        options["target_order"] = draw(st.sampled_from(("forward", "reversed")))
    if case.kind in ("prediction", "composite"):
        options["horizon"] = draw(st.integers(1, case.length - 1))
    return Architecture(
        case.length, case.features, case.units, case.kind, case.activation, **options
    )


@on_each
@given(
    case=cases(),
    count=st.one_of(st.integers(1, 90), st.sampled_from((256, 700))),
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from((1.0, 1e-30, 1e6, 1e30)),
)
@settings(deadline=None, max_examples=20)
def test_a_network_is_as_near_to_the_formulas_as_onnx_runtime_is(
    instructions: str, case: Architecture, count: int, seed: int, size: float
) -> None:
    """What is small is a difference of large numbers: another engine says how near one comes."""
    scaling = scaling_of(case, seed)
    network = random_network(case, spread=0.25, seed=seed % 1000)
    scale = np.resize(ERROR_SCALES, (len(case.targets), case.features))
    serialized = scorer_graph(case, network, scaling, scale)
    x = windows(count, scaling, case.length, seed) * np.float32(size)
    other = run_all(OnnxRuntimeGraph(serialized, threads=1), x)
    found = run_all(NativeGraph(serialized, threads=1, instructions=instructions), x)
    z = formulas.scaled(x, scaling)
    said = [formulas.in_order(case, out) for out in formulas.outputs(case, network, z)]
    exact = {
        "scaled_expectation": np.concatenate(said, axis=1).transpose(1, 0, 2),
        "errors": formulas.errors(case, network, z, scale),
    }
    for name, one in exact.items():
        assert found[name].shape == one.shape
        apart, others = (np.abs(f[name] - one).max() for f in (found, other))
        assert apart <= 4 * others + 1e-5 * np.abs(one).max(), name


@on_each
@given(
    case=cases(),
    count=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from((1.0, 1e-30, 1e6, 1e30)),
)
@settings(deadline=None, max_examples=8)
def test_views_are_as_those_of_onnx_runtime(
    instructions: str, case: Architecture, count: int, seed: int, size: float
) -> None:
    scaling = scaling_of(case, seed)
    serialized = graph_of(case, scaling, views=True, seed=seed % 1000)
    x = windows(count, scaling, case.length, seed) * np.float32(size)
    found, expected = (
        run_all(graph, x)
        for graph in (
            NativeGraph(serialized, threads=1, instructions=instructions),
            OnnxRuntimeGraph(serialized, threads=1),
        )
    )
    assert found.keys() == expected.keys()
    inside = np.maximum(1, np.abs(scaling.apply(x)).max(axis=(1, 2)))[:, None]
    for name in OF_THE_TICKS:
        # A distance is a difference of squares that may be much larger.
        floor = 1e-2 * inside if name in DISTANCES else 1e-5 * inside**2
        one, two = expected[name], found[name]
        assert (np.abs(one - two) <= 1e-4 * np.abs(one) + floor).all(), name
        of_features = f"{name}.features"
        assert found[of_features].shape == expected[of_features].shape
    # The views as a whole are these, one by one.
    columns = [found[name] for name in found if f"{name}.features" in found]
    assert np.concatenate(columns, axis=1).tobytes() == found["views"].tobytes()


def scaling_of(case: Architecture, seed: int) -> Scaling:
    random = np.random.default_rng(seed)
    return Scaling(random.normal(size=case.features), random.lognormal(size=case.features), 4.0)


DISTANCES = ("memory", "tick", "statistics", "feature_statistics")
OF_THE_TICKS = (*DISTANCES, "components", "move")


@on_each
def test_extreme_windows_are_numbers(instructions: str) -> None:
    """The largest float, the smallest, zeros of both signs: as ONNX Runtime, bit for bit alone."""
    extremes = np.array([3.4e38, -3.4e38, 1e-45, -0.0, 0.0, 1.0], np.float32)
    x = np.random.default_rng(4).choice(extremes, (200, LENGTH, FEATURES))
    for name in ("reconstruction", "dense", "composite, horizon 2, forward, conditioned=True"):
        serialized = graph_of(CASES[name], views=True)
        graph = NativeGraph(serialized, threads=1, instructions=instructions)
        found, expected = (run_all(g, x) for g in (graph, OnnxRuntimeGraph(serialized, threads=1)))
        for output, one in found.items():
            assert np.isfinite(one).all(), output
            if output in ("errors", "last_errors", "components", "move"):
                np.testing.assert_allclose(one, expected[output], rtol=1e-4)
        alone = np.concatenate(
            [graph.run(["views"], {"windows": x[i : i + 1]})[0] for i in range(200)]
        )
        assert alone.tobytes() == found["views"].tobytes()


def test_a_graph_that_it_does_not_know_goes_to_onnx_runtime() -> None:
    case = CASES["reconstruction"]
    network = random_network(case)
    classes = DenseWeights(np.ones((4, 2), np.float32), np.zeros(2, np.float32))
    for serialized in (
        encoder_graph(case, network, SCALING),
        classifier_graph(case, network.encoder, classes, SCALING),
    ):
        graph = open_graph(serialized, threads=1)
        assert graph.engine.name == "onnxruntime"
        assert graph.engine.why
    graph = open_graph(graph_of(case, views=True), threads=1)
    assert graph.engine.name == f"native ({instruction_sets()[0]})"
    assert not graph.engine.why


def test_windows_of_another_shape_are_refused() -> None:
    graph = NativeGraph(graph_of(CASES["reconstruction"], views=False), threads=1)
    for shape in ((3, LENGTH + 1, FEATURES), (3, LENGTH * FEATURES), (LENGTH, FEATURES)):
        with pytest.raises(ValueError, match="windows of shape"):
            graph.run(["errors"], {"windows": np.zeros(shape, np.float32)})
    (nothing,) = graph.run(["errors"], {"windows": np.zeros((0, LENGTH, FEATURES), np.float32)})
    assert nothing.shape == (0, FEATURES)
