"""The Keras networks against the same formulas as the exported graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.core.scaling import Scaling
from detector.model.export import encoder_graph, scorer_graph
from detector.model.family import Architecture
from tests.model import formulas
from tests.model.formulas import Array
from tests.model.test_export import CASES, FEATURES, LENGTH, session

pytestmark = pytest.mark.training

#: relu tells itself from tanh once a kind; the options are the same code for both.
CHOSEN = {
    name: case
    for name, case in CASES.items()
    if case.activation == "tanh" or name == f"{case.kind}, relu"
}
RECURRENT = {name: case for name, case in CHOSEN.items() if case.recurrent}
UNSCALED = Scaling(np.zeros(FEATURES), np.ones(FEATURES), 4.0)


def built(case: Architecture) -> Any:
    """A network with biases that are not zero, as Keras draws them."""
    from detector.model.backend import keras
    from detector.model.networks import build_network

    keras.utils.set_random_seed(3)
    network = build_network(case)
    random = np.random.default_rng(3)
    network.set_weights([w + random.normal(0, 0.1, w.shape) for w in network.get_weights()])
    return network


def windows(count: int = 12) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(4).normal(0, 2, (count, LENGTH, FEATURES)).astype(np.float32)


def said_by(network: Any, z: np.ndarray[Any, Any], case: Architecture) -> list[Array]:
    outputs = network(z)
    if len(case.targets) == 1:
        return [np.asarray(outputs)]
    return [np.asarray(outputs[target.name]) for target in case.targets]


@pytest.mark.parametrize("case", CHOSEN.values(), ids=CHOSEN)
def test_the_network_is_what_the_formulas_say_and_what_is_exported(
    case: Architecture, tmp_path: Path
) -> None:
    from detector.model.backend import keras
    from detector.model.networks import network_weights, targets

    network, x = built(case), windows()
    z = formulas.scaled(x, UNSCALED)
    weights = network_weights(network, case)
    found = said_by(network, z, case)
    for one, other in zip(found, formulas.outputs(case, weights, z, taught=True), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert network.count_params() == weights.parameters()

    wanted = targets(z.astype(np.float32), case)
    by_target = wanted if isinstance(wanted, dict) else {case.targets[0].name: wanted}
    for target in case.targets:
        own = formulas.in_order(case, z[:, target.start : target.start + target.steps])
        np.testing.assert_array_equal(by_target[target.name], own.astype(np.float32))

    graph = session(scorer_graph(case, weights, UNSCALED, np.ones((len(case.targets), FEATURES))))
    errors, expected = graph.run(["errors", "scaled_expectation"], {"windows": x})
    if not case.conditioned:  # those are taught in Keras
        said = np.concatenate([formulas.in_order(case, each) for each in found], axis=1)
        np.testing.assert_allclose(expected.transpose(1, 0, 2), said, rtol=1e-5, atol=1e-5)
    own = formulas.errors(case, weights, z, np.ones((len(case.targets), FEATURES)))
    np.testing.assert_allclose(errors, own, rtol=1e-5, atol=1e-5)

    network.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    for one, other in zip(found, said_by(again, z, case), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("case", RECURRENT.values(), ids=RECURRENT)
def test_the_encoder_network_passes_over_padding(case: Architecture) -> None:
    from detector.model.networks import PADDING, build_encoder, network_weights

    network = built(case)
    encoder, weights = build_encoder(network, case), network_weights(network, case)
    lengths = np.array([1, 4, 9, 6])
    x = np.random.default_rng(5).normal(0, 2, (4, 9, FEATURES)).astype(np.float32)
    x[0, 0] = 0  # a tick of zeros is a tick
    z = formulas.scaled(x, UNSCALED)
    z[np.arange(9) >= lengths[:, None]] = PADDING
    found = np.asarray(encoder(z))
    assert found.shape == (4, case.units[-1])
    for i, length in enumerate(lengths):
        expected = formulas.encoding(weights, z[i : i + 1, :length])
        np.testing.assert_allclose(found[i : i + 1], expected, rtol=1e-5, atol=1e-5)
    graph = session(encoder_graph(case, weights, UNSCALED))
    (exported,) = graph.run(None, {"windows": x, "lengths": lengths.astype(np.int32)})
    np.testing.assert_allclose(found, exported, rtol=1e-5, atol=1e-5)
