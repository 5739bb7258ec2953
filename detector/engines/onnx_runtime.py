"""ONNX Runtime: the only place that imports it and sets its options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from detector.core.graphs import Engine, Shape


class OnnxRuntimeGraph:
    """A session over a serialized ONNX graph, on threads CPU threads."""

    #: Windows in one call: past 64 the rate no longer grows (docs/benchmarks.md), and the buffers
    #: of a call stay in cache.
    batch = 256

    def __init__(self, serialized: bytes, *, threads: int, why: str = "") -> None:
        """why: another engine was wanted first, and what it said."""
        self.engine = Engine("onnxruntime", why)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Idle threads must sleep: the machine belongs to others too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(serialized, options, providers=providers)
        self.inputs = {i.name: _shape(i) for i in self._session.get_inputs()}
        self.outputs = {o.name: _shape(o) for o in self._session.get_outputs()}

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        results: list[NDArray[Any]] = self._session.run(outputs, inputs)
        return results


def _shape(of: Any) -> Shape:
    return tuple(of.shape)
