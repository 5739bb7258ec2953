"""Small published cases, trained for real and asked through the exported graphs.

The ramp 0.1 ... 0.9 with 100 units and 300 epochs is that of J. Brownlee 2018, "A Gentle
Introduction to LSTM Autoencoders". Largest errors published: about 0.004 for its reconstruction,
0.034 for the prediction of what follows. The figures are printed: pytest -s. Weights differ from
machine to machine: a prediction may be wrong by a step of the ramp.
"""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.core.ticks import Float32
from detector.engines import open_graph
from detector.model.export import encoder_graph, scorer_graph
from detector.model.family import Architecture
from detector.model.weights import NetworkWeights
from tests.model.test_export import session

pytestmark = pytest.mark.training

EPOCHS = 300
#: Of the ramp.
STEP = 0.1


def identity(features: int) -> Scaling:
    """As good as no scaling: asinh is a line so close to zero."""
    return Scaling(np.zeros(features), np.ones(features), 1e4)


def trained(
    case: Architecture, windows: Float32, *, epochs: int = EPOCHS
) -> tuple[NetworkWeights, list[float]]:
    """Weights after so many passes over the windows, all in one batch, and the loss of each."""
    from detector.model.backend import keras
    from detector.model.networks import (
        build_network,
        compile_network,
        network_weights,
        targets,
    )

    keras.utils.set_random_seed(1)
    network = build_network(case)
    compile_network(network, case, keras.optimizers.Adam(0.001), xla=False)
    scaled = identity(case.features).apply(windows)
    wanted = targets(scaled, case)
    losses = [
        float(network.train_on_batch(scaled, wanted, return_dict=True)["loss"])
        for _ in range(epochs)
    ]
    return network_weights(network, case), losses


def expected(case: Architecture, weights: NetworkWeights, windows: Float32) -> Float32:
    scaling, ones = identity(case.features), np.ones((len(case.targets), case.features))
    graph = scorer_graph(case, weights, scaling, ones)
    return GraphScorer(open_graph(graph, threads=1), scaling).reconstruct(windows)


def encoded(case: Architecture, weights: NetworkWeights, windows: Float32) -> Float32:
    engine = session(encoder_graph(case, weights, identity(case.features)))
    lengths = np.full(len(windows), windows.shape[1], np.int32)
    vectors: Float32 = engine.run(None, {"windows": windows, "lengths": lengths})[0]
    return vectors


def ramp(ticks: int) -> Float32:
    """0.1, 0.2 ... as one window of one feature."""
    return (np.arange(1, ticks + 1) / 10).astype(np.float32).reshape(1, ticks, 1)


def test_a_ramp_of_nine_steps_is_reconstructed() -> None:
    case, window = Architecture(9, 1, (100,)), ramp(9)
    weights, _ = trained(case, window)
    error = float(np.abs(expected(case, weights, window) - window).max())
    print(f"\nreconstruction: largest error {error:.4f}")
    assert error <= 0.2 * STEP
    assert encoded(case, weights, window).shape == (1, 100)


def test_the_eight_steps_after_the_ramp_are_predicted() -> None:
    """From the last to the first; the composite network has them in their order."""
    case = Architecture(17, 1, (100,), kind="prediction", horizon=8, target_order="reversed")
    window = ramp(17)
    weights, _ = trained(case, window)
    foretold = expected(case, weights, window)
    assert foretold.shape == (1, 8, 1)
    error = float(np.abs(foretold - window[:, 9:]).max())
    print(f"\nprediction: largest error {error:.4f}")
    assert error <= STEP
    assert encoded(case, weights, window[:, :9]).shape == (1, 100)


def test_a_composite_network_gives_the_ramp_back_and_what_follows() -> None:
    case, window = Architecture(17, 1, (100,), kind="composite", horizon=8), ramp(17)
    weights, _ = trained(case, window)
    error = np.abs(expected(case, weights, window) - window)[0, :, 0]
    print(f"\ncomposite: largest error {error[:9].max():.4f} before, {error[9:].max():.4f} after")
    assert error[:9].max() <= 0.2 * STEP
    assert error[9:].max() <= STEP


def test_a_conditioned_decoder_learns_what_follows_the_ramp() -> None:
    """Taught with true ticks, asked with its own."""
    case = Architecture(17, 1, (100,), kind="prediction", horizon=8, conditioned=True)
    window = ramp(17)
    weights, _ = trained(case, window)
    error = float(np.abs(expected(case, weights, window) - window[:, 9:]).max())
    print(f"\nprediction, conditioned: largest error {error:.4f}")
    assert error <= STEP


def test_a_stack_of_ten_and_five_units_learns_windows_of_20_by_3() -> None:
    case = Architecture(20, 3, (10, 5), kind="sequence")
    time = np.arange(20) + np.arange(64)[:, None]
    windows = np.stack([np.sin(time / p) for p in (3, 5, 7)], axis=2).astype(np.float32)
    weights, losses = trained(case, windows, epochs=60)
    assert losses[-1] < 0.9 * losses[0]
    assert [w.units for w in weights.encoder] == [10, 5]
    assert [w.units for d in weights.decoders for w in d.lstm] == [10]
    assert expected(case, weights, windows).shape == (64, case.expected_ticks, 3)
    assert encoded(case, weights, windows).shape == (64, 5)


def test_a_dense_network_learns_vectors_of_ten() -> None:
    """Vectors that two numbers make up go through two units."""
    case = Architecture(2, 5, (8, 2), kind="dense")
    random = np.random.default_rng(0)
    vectors = random.uniform(-1, 1, (256, 2)) @ random.normal(0, 0.5, (2, 10))
    windows = vectors.reshape(-1, 2, 5).astype(np.float32)
    weights, losses = trained(case, windows, epochs=1000)
    found = expected(case, weights, windows)
    assert found.shape == windows.shape
    print(f"\ndense: mean squared error {losses[-1]:.5f} of a variance of {windows.var():.3f}")
    assert np.mean((found - windows) ** 2) < 0.1 * windows.var()
