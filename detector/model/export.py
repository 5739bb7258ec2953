"""A network as ONNX graphs: fused LSTM operators, scaling and error inside.

Written operator by operator: the graph stays time-major from end to end, has fixed names, and
needs no converter. See docs/decisions/0003.

Graph `scorer`: windows (n, length, features) float32 ->
    errors (n, features): of every target the mean over its ticks of (network(z) - z)^2, divided by
        error_scale and added up with the targets' weights,
        where z = squash * asinh((x - center) / scale / squash)
    scaled_expectation (k, n, features): network(z), for the last k = expected_ticks of the window
    last_errors (n, features): mean squared error of the last ticks alone, where that is another
        (Architecture.last_ticks)
    views (n, views): how strange the window is to each view (model/views); of every view the same
        alone, NAME (n, 1), and what the features have to do with it, NAME.features (n, features);
        of a memory what it remembers that is nearest, NAME.nearest (n, ticks, features), scaled
Graph `encoder`: windows (n, steps, features) float32 of any number of steps, of which lengths (n,)
    int32 are valid -> encoding (n, units of the bottleneck): the state after the last valid one.
    What stands in the padding plays no part.
Graph `classifier`: windows (n, length, features) float32 -> probabilities (n, classes): the
    encoder's layers over the whole window, a dense one, softmax.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.core.scaling import Scaling
from detector.model.conditioned import decode_conditioned
from detector.model.family import Architecture, Target
from detector.model.graph import INT32, Graph, tensor
from detector.model.views import add_views
from detector.model.views.memory import Memory, Tick
from detector.model.views.view import Seen, View
from detector.model.weights import DecoderWeights, DenseWeights, LstmWeights, NetworkWeights

#: Scales from the centre beyond which a value is as far as any.
_FARTHEST = 1e18


def scorer_graph(
    architecture: Architecture,
    network: NetworkWeights,
    scaling: Scaling,
    error_scale: NDArray[np.float64],
    views: Sequence[View] = (),
) -> bytes:
    """The serialized graph `scorer` of the module's docstring. error_scale: (features,), or
    (targets, features) where there are several."""
    features = architecture.features
    graph = Graph()
    windows = _scale(graph, scaling, ticks=architecture.length)
    if not architecture.recurrent:
        windows = _in_company(graph, windows)
    scaled = graph.add("Transpose", [windows], "scaled", perm=[1, 0, 2])
    if architecture.recurrent:
        bottleneck = _encode(graph, architecture, network, scaled)
        expected = [
            _decode(graph, architecture, target, decoder, bottleneck, scaling)
            for target, decoder in zip(architecture.targets, network.decoders, strict=True)
        ]
    else:
        expected = [_through_dense(graph, architecture, network.decoders[0], windows)]
    errors = [
        _error(graph, architecture, target, found, scaled, scale)
        for target, found, scale in zip(
            architecture.targets, expected, np.atleast_2d(error_scale), strict=True
        )
    ]
    if len(expected) > 1:
        graph.add("Concat", expected, "scaled_expectation", axis=0)
        graph.add("Sum", errors, "errors")
    elif not architecture.recurrent:
        graph.all_but_last(expected[0], "scaled_expectation", axis=1)
        graph.all_but_last(errors[0], "errors", axis=0)
    else:
        graph.add("Identity", expected, "scaled_expectation")
        graph.add("Identity", errors, "errors")
    outputs = [
        tensor("errors", ["n", features]),
        tensor("scaled_expectation", [architecture.expected_ticks, "n", features]),
    ]
    last = architecture.last_ticks
    if last is not None:
        _last_errors(graph, architecture, last)
        outputs.append(tensor("last_errors", ["n", features]))
    if views:
        if architecture.recurrent:
            windows = _in_company(graph, windows)
        seen = Seen(windows, "errors", "last_errors", architecture.length, features)
        add_views(graph, views, seen)
        outputs.append(tensor("views", ["n", len(views)]))
        outputs += [tensor(view.NAME, ["n", 1]) for view in views]
        outputs += [tensor(f"{view.NAME}.features", ["n", features]) for view in views]
        outputs += [
            tensor(f"{view.NAME}.nearest", ["n", view.ticks, features])
            for view in views
            if isinstance(view, Memory | Tick)
        ]
    return graph.serialized(
        [tensor("windows", ["n", architecture.length, features])], outputs, "scorer"
    )


def encoder_graph(architecture: Architecture, network: NetworkWeights, scaling: Scaling) -> bytes:
    """The serialized graph `encoder` of the module's docstring. Recurrent kinds only."""
    graph = Graph()
    windows = _scale(graph, scaling, ticks=1)
    hidden = graph.add("Transpose", [windows], "scaled", perm=[1, 0, 2])
    last = ""
    for i, layer in enumerate(network.encoder):
        hidden, last = graph.lstm_padded(hidden, "lengths", layer, f"encoder_{i}")
    graph.add("Squeeze", [last, graph.constant("direction_axis", [0])], "encoding")
    return graph.serialized(
        [
            tensor("windows", ["n", "steps", architecture.features]),
            tensor("lengths", ["n"], INT32),
        ],
        [tensor("encoding", ["n", architecture.units[-1]])],
        "encoder",
    )


def layers_graph(architecture: Architecture, network: NetworkWeights) -> bytes:
    """The layers of a network alone, without scaling and error: what the graph `scorer` can at best
    be as fast as. windows (length, n, features), or of kind dense (n, length * features)."""
    graph = Graph()
    if not architecture.recurrent:
        output, flat = "windows", architecture.length * architecture.features
        for i, layer in enumerate(network.decoders[0].dense):
            output = graph.dense(output, layer, f"dense_{i}")
        shape: list[int | str] = ["n", flat]
        return graph.serialized([tensor("windows", shape)], [tensor(output, shape)], "layers")
    bottleneck = _encode(graph, architecture, network, "windows")
    unbounded = Scaling(np.zeros(1), np.ones(1), 1e30)  # frames are clipped nowhere
    outputs = [
        _decode(graph, architecture, target, decoder, bottleneck, unbounded)
        for target, decoder in zip(architecture.targets, network.decoders, strict=True)
    ]
    width = architecture.features
    return graph.serialized(
        [tensor("windows", [architecture.length, "n", width])],
        [
            tensor(output, [target.steps, "n", width])
            for target, output in zip(architecture.targets, outputs, strict=True)
        ],
        "layers",
    )


def classifier_graph(
    architecture: Architecture,
    layers: Sequence[LstmWeights],
    dense: DenseWeights,
    scaling: Scaling,
) -> bytes:
    """The serialized graph `classifier` of the module's docstring. Recurrent kinds only."""
    graph = Graph()
    windows = _scale(graph, scaling, ticks=architecture.length)
    hidden = graph.add("Transpose", [windows], "scaled", perm=[1, 0, 2])
    *first, last = layers
    for i, layer in enumerate(first):
        hidden = graph.lstm(hidden, layer, f"encoder_{i}")
    state = graph.lstm_last(hidden, last, f"encoder_{len(first)}")
    vector = graph.add("Squeeze", [state, graph.constant("direction_axis", [0])], "vector")
    graph.add("Softmax", [graph.dense(vector, dense, "classes")], "probabilities", axis=-1)
    return graph.serialized(
        [tensor("windows", ["n", architecture.length, architecture.features])],
        [tensor("probabilities", ["n", len(dense.bias)])],
        "classifier",
    )


def _in_company(graph: Graph, windows: str) -> str:
    """A window of zeros behind them, dropped again from what comes of it: for a single window ONNX
    Runtime takes other kernels, whose sums differ in the last bits from those among many."""
    company = graph.constant("one_window", [0, 0, 0, 1, 0, 0])
    return graph.add("Pad", [windows, company], "in_company")


def _last_errors(graph: Graph, architecture: Architecture, ticks: int) -> None:
    target = architecture.targets[-1]
    squared = f"{target.name}.squared"
    part = graph.ticks(squared, f"{target.name}.last", target.steps - ticks, ticks)
    axis = graph.constant("time_axis", [0])
    name = "last_errors" if architecture.recurrent else "last_errors_in_company"
    graph.add("ReduceMean", [part, axis], name, keepdims=0)
    if not architecture.recurrent:
        graph.all_but_last(name, "last_errors", axis=0)


def _scale(graph: Graph, scaling: Scaling, *, ticks: int) -> str:
    """windows -> z, of the same shape. ticks: of the windows, if it is known, else 1: constants
    of a whole window spare ONNX Runtime a loop a tick."""
    inverse_scale = 1 / (scaling.scale * scaling.squash)
    graph.constant("center", np.tile(scaling.center, (ticks, 1)).astype(np.float32))
    graph.constant("inverse_scale", np.tile(inverse_scale, (ticks, 1)).astype(np.float32))
    graph.constant("squash", np.asarray(scaling.squash, np.float32))
    graph.add("Sub", ["windows", "center"], "centred")
    graph.add("Mul", ["centred", "inverse_scale"], "standardised")
    # A sentinel such as the largest float would become infinite, and the score with it.
    graph.constant("lowest", np.asarray(-_FARTHEST, np.float32))
    graph.constant("highest", np.asarray(_FARTHEST, np.float32))
    graph.add("Clip", ["standardised", "lowest", "highest"], "bounded")
    graph.add("Asinh", ["bounded"], "compressed")
    return graph.add("Mul", ["compressed", "squash"], "scaled_windows")


def _encode(graph: Graph, architecture: Architecture, network: NetworkWeights, scaled: str) -> str:
    """(length, n, features) -> (1, n, units[-1]), or (length, n, units[-1]) for `sequence`."""
    hidden = scaled
    if architecture.inputs < architecture.length:
        hidden = graph.ticks(scaled, "read", 0, architecture.inputs)
    *first, last = network.encoder
    for i, layer in enumerate(first):
        hidden = graph.lstm(hidden, layer, f"encoder_{i}")
    final = graph.lstm if architecture.kind == "sequence" else graph.lstm_last
    return final(hidden, last, f"encoder_{len(first)}")


def _decode(
    graph: Graph,
    architecture: Architecture,
    target: Target,
    decoder: DecoderWeights,
    bottleneck: str,
    scaling: Scaling,
) -> str:
    """The bottleneck -> the target's ticks (steps, n, features), in time."""
    name = target.name
    if architecture.conditioned:
        # No tick lies farther out, once scaled.
        limit = scaling.squash * float(np.arcsinh(_FARTHEST))
        output = decode_conditioned(graph, bottleneck, decoder, target, limit=limit)
    else:
        hidden = bottleneck
        if architecture.kind not in ("sequence", "last_step"):
            hidden = graph.repeat(bottleneck, f"{name}.repeated", target.steps)
        for i, layer in enumerate(decoder.lstm):
            hidden = graph.lstm(hidden, layer, f"{name}_{i}")
        output = graph.dense(hidden, decoder.dense[-1], f"{name}.dense")
    if architecture.target_order == "reversed" and target.steps > 1:
        output = graph.backwards(output, f"{name}.in_time")
    return output


def _through_dense(
    graph: Graph, architecture: Architecture, decoder: DecoderWeights, windows: str
) -> str:
    """(n, length, features) -> (length, n, features) through the flattened window."""
    hidden = graph.add("Flatten", [windows], "flat", axis=1)
    for i, layer in enumerate(decoder.dense):
        hidden = graph.dense(hidden, layer, f"dense_{i}")
    shape = graph.constant("window_shape", [0, architecture.length, architecture.features])
    graph.add("Reshape", [hidden, shape], "unflattened")
    return graph.add("Transpose", ["unflattened"], "in_time", perm=[1, 0, 2])


def _error(
    graph: Graph,
    architecture: Architecture,
    target: Target,
    expected: str,
    scaled: str,
    error_scale: NDArray[np.float64],
) -> str:
    """(steps, n, features) -> the weighted, normalised error (n, features) of one target."""
    name, observed = target.name, scaled
    if target.steps < architecture.length:
        observed = graph.ticks(scaled, f"{name}.observed", target.start, target.steps)
    graph.add("Sub", [expected, observed], f"{name}.difference")
    graph.add("Mul", [f"{name}.difference"] * 2, f"{name}.squared")
    axis = graph.constant("time_axis", [0])
    graph.add("ReduceMean", [f"{name}.squared", axis], f"{name}.mean_squared", keepdims=0)
    factor = graph.constant(f"{name}.factor", (target.weight / error_scale).astype(np.float32))
    return graph.add("Mul", [f"{name}.mean_squared", factor], f"{name}.errors")
