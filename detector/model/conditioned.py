"""Decoders that read what they have said: step t reads (vector, frame t - 1), the first (vector,
zeros). Sutskever et al. 2014, "Sequence to Sequence Learning with Neural Networks".

Scoring has only the decoder's own frames, so each step waits for the one before. Where the frame
is a linear function of the state that the next step reads anyway, the way back through the dense
layer folds into the recurrent weights, and the decoder is one fused LSTM operator:

    gates = v Wv + (h D + d) Wf + h R + b = v Wv + h (R + D Wf) + (d Wf) + b

That needs a single LSTM layer, and frames that cannot leave the range they would be clipped to:
those of tanh states, all below 1. Else every step is an operator a layer.
"""

from __future__ import annotations

import numpy as np

from detector.model.family import Target
from detector.model.graph import Graph
from detector.model.weights import DecoderWeights, LstmWeights


def decode_conditioned(
    graph: Graph, vector: str, decoder: DecoderWeights, target: Target, *, limit: float
) -> str:
    """(1, n, units) -> (steps, n, features). A frame is clipped to -limit ... limit when read."""
    output = decoder.dense[-1]
    reach = float((np.abs(output.kernel).sum(axis=0) + np.abs(output.bias)).max())
    bounded = all(layer.activation == "tanh" for layer in decoder.lstm) and reach <= limit
    if bounded and len(decoder.lstm) == 1:
        return _folded(graph, vector, decoder, target)
    return _unrolled(graph, vector, decoder, target, limit)


def _folded(graph: Graph, vector: str, decoder: DecoderWeights, target: Target) -> str:
    name, (layer,), output = target.name, decoder.lstm, decoder.dense[-1]
    features = len(output.bias)
    of_vector, of_frame = np.split(layer.kernel.astype(np.float64), [-features])
    kernel = np.concatenate([of_vector, (output.bias @ of_frame)[None]])
    folded = LstmWeights(
        kernel.astype(np.float32),
        (layer.recurrent + output.kernel @ of_frame).astype(np.float32),
        layer.bias,
        layer.activation,
    )
    # One more input: 0 at the first step, which has no frame before it, then 1.
    wider = graph.constant("one_more", [0, 0, 0, 0, 0, 1])
    none = graph.constant("none", np.asarray(0, np.float32))
    one = graph.constant("one", np.asarray(1, np.float32))
    hidden = graph.add("Pad", [vector, wider, none], f"{name}.first_input")
    if target.steps > 1:
        graph.add("Pad", [vector, wider, one], f"{name}.next_input")
        rest = graph.repeat(f"{name}.next_input", f"{name}.next_inputs", target.steps - 1)
        hidden = graph.add("Concat", [hidden, rest], f"{name}.inputs", axis=0)
    hidden = graph.lstm(hidden, folded, f"{name}_0")
    return graph.dense(hidden, output, f"{name}.dense")


def _unrolled(
    graph: Graph, vector: str, decoder: DecoderWeights, target: Target, limit: float
) -> str:
    name, output = target.name, decoder.dense[-1]
    lowest = graph.constant("lowest_frame", np.asarray(-limit, np.float32))
    highest = graph.constant("highest_frame", np.asarray(limit, np.float32))
    no_frame = graph.constant("no_frame", [0, 0, 0, 0, 0, len(output.bias)])
    hidden = graph.add("Pad", [vector, no_frame], f"{name}.input_0")
    states = [("", "")] * len(decoder.lstm)
    frames: list[str] = []
    for step in range(target.steps):
        if step:
            bounded = graph.add("Clip", [frames[-1], lowest, highest], f"{name}.bounded_{step}")
            hidden = graph.add("Concat", [vector, bounded], f"{name}.input_{step}", axis=2)
        for i, layer in enumerate(decoder.lstm):
            states[i] = graph.lstm_step(hidden, layer, f"{name}_{i}", step=step, state=states[i])
            hidden = states[i][0]
        frames.append(graph.dense(hidden, output, f"{name}.dense", f"{name}.frame_{step}"))
    return graph.add("Concat", frames, f"{name}.frames", axis=0)
