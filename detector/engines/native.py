"""The native engine: graphs as programs in C (detector/native/scoring.c), on several threads.

One window alone and among a thousand: the same bits. On another instruction set the last bits may
be others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.graphs import Engine, Shape
from detector.engines.lowering import Lowered, lower
from detector.engines.onnx_file import read_graph
from detector.engines.tensors import UnknownGraphError
from detector.native import extension

_scoring, WHY_NOT = extension("_scoring")
#: Windows a thread gets at least: fewer are done before another one wakes up.
_FEWEST = 64
#: And in one call, for each thread: its buffers stay in cache.
_BATCH = 256


def instruction_sets() -> tuple[str, ...]:
    """What this processor has of those the engine knows, best first; none where it is not built."""
    return () if _scoring is None else tuple(_scoring.instruction_sets())


class NativeGraph:
    """A serialized graph as programs, one for each set of outputs somebody asks for."""

    def __init__(self, serialized: bytes, *, threads: int, instructions: str = "") -> None:
        """instructions: the best the processor has, unless one is named. Raises UnknownGraphError
        where the engine does not know the graph, or is not there."""
        if _scoring is None:
            raise UnknownGraphError(WHY_NOT)
        try:
            self._graph = read_graph(serialized)
        except ValueError as error:
            raise UnknownGraphError(str(error)) from None
        self._instructions = instructions
        self._programs: dict[tuple[str, ...], tuple[Any, Lowered]] = {}
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self.inputs: Mapping[str, Shape] = self._graph.inputs
        self.outputs: Mapping[str, Shape] = self._graph.outputs
        #: Windows in one call that keep all threads busy.
        self.batch = _BATCH * threads
        # All of it is known, before anybody relies on it.
        program, _ = self._program(tuple(self.outputs))
        self.engine = Engine(f"native ({program.about[0]})")
        self._programs.clear()

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        (given,) = inputs.values()
        program, lowered = self._program(tuple(outputs))
        windows = np.ascontiguousarray(given, np.float32)
        if windows.shape[1:] != self._graph.inputs[next(iter(inputs))][1:]:
            raise ValueError(f"windows of shape {windows.shape}")
        n = len(windows)
        results = [np.empty((n, *shape), np.float32) for shape, _ in lowered.outputs]
        share = max(_FEWEST, -(-n // self._threads))
        if share >= n:
            program.run(windows, tuple(results))
        else:
            share = -(-share // _FEWEST) * _FEWEST
            parts = [slice(first, first + share) for first in range(0, n, share)]
            pool = self._pool or ThreadPoolExecutor(self._threads - 1, "scoring")
            self._pool = pool
            others = [
                pool.submit(program.run, windows[p], tuple(r[p] for r in results))
                for p in parts[1:]
            ]
            program.run(windows[parts[0]], tuple(r[parts[0]] for r in results))
            for other in others:
                other.result()
        return [
            np.moveaxis(result, 0, axis) if axis else result
            for result, (_, axis) in zip(results, lowered.outputs, strict=True)
        ]

    def _program(self, outputs: tuple[str, ...]) -> tuple[Any, Lowered]:
        found = self._programs.get(outputs)
        if found is None:
            lowered = lower(self._graph, outputs)
            code = lowered.code
            try:
                program = _scoring.Program(
                    code.ops.tobytes(),
                    code.constants.tobytes(),
                    code.outputs.tobytes(),
                    code.window,
                    code.arena,
                    self._instructions,
                )
            except ValueError as error:
                raise UnknownGraphError(str(error)) from None
            found = self._programs[outputs] = (program, lowered)
        return found
