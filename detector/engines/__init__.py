"""What runs a serialized graph. A new engine is a file here and a line in ENGINES."""

from __future__ import annotations

from collections.abc import Callable

from detector.core.graphs import Graph
from detector.engines.tensors import UnknownGraphError
from detector.errors import ConfigError


def _native(serialized: bytes, threads: int) -> Graph:
    from detector.engines.native import NativeGraph

    try:
        return NativeGraph(serialized, threads=threads)
    except UnknownGraphError as error:
        raise ConfigError(f"engine: native cannot run this: {error}; auto can") from None


def _onnx_runtime(serialized: bytes, threads: int, why: str = "") -> Graph:
    from detector.engines.onnx_runtime import OnnxRuntimeGraph  # 0.1 s: when a graph is opened

    return OnnxRuntimeGraph(serialized, threads=threads, why=why)


def _auto(serialized: bytes, threads: int) -> Graph:
    """The native engine; where it is not there, or does not know the graph, ONNX Runtime."""
    from detector.engines.native import NativeGraph

    try:
        return NativeGraph(serialized, threads=threads)
    except UnknownGraphError as error:
        return _onnx_runtime(serialized, threads, str(error))


#: By name: (serialized graph, CPU threads) -> a graph that is ready to run.
ENGINES: dict[str, Callable[[bytes, int], Graph]] = {
    "auto": _auto,
    "native": _native,
    "onnxruntime": _onnx_runtime,
}
DEFAULT = "auto"


def open_graph(serialized: bytes, *, threads: int, engine: str = DEFAULT) -> Graph:
    """Raises ConfigError where the native engine is asked for and cannot; else whatever the engine
    does where it cannot run the graph."""
    return ENGINES[engine](serialized, threads)
