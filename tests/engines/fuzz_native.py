"""Programs of random numbers, for an engine that was built with sanitizers.

    python -m tests.engines.fuzz_native EXTENSION SEED PROGRAMS

Loads the extension at that path in the place of the package's own. What comes of a program is of no
interest: it is refused, or it runs within its bounds.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np

#: Lengths and offsets that are nearly right, or far from it.
_ODD = (-(2**63), -(2**31), -5, -1, 0, 1, 2, 3, 7, 15, 16, 17, 64, 1000, 2**30, 2**31, 2**63 - 1)


def load(path: str) -> Any:
    name = "detector.native._scoring"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


def run_every_kind(scoring: Any) -> None:
    """As they are, in blocks and alone."""
    from detector.engines.native import NativeGraph
    from tests.engines.test_native import CASES, graph_of, run_all, windows

    for i, case in enumerate(CASES.values()):
        serialized = graph_of(case, views=i % 10 == 0)
        for instructions in scoring.instruction_sets():
            graph = NativeGraph(serialized, threads=1, instructions=instructions)
            for count in (1, 20, 70):
                run_all(graph, windows(count))


def fuzz(scoring: Any, seed: int, programs: int) -> tuple[int, int]:
    """How many were refused, and how many ran."""
    from detector.engines.lowering import lower
    from detector.engines.onnx_file import read_graph
    from tests.engines.test_native import CASES, graph_of

    random = np.random.default_rng(seed)
    names = (
        "reconstruction, wide",
        "dense, deep",
        "composite, horizon 2, forward, conditioned=True",
    )
    codes = []
    for name in names:
        graph = read_graph(graph_of(CASES[name], views=True))
        codes += [lower(graph, [*graph.outputs][:4]).code, lower(graph, ["memory.nearest"]).code]
    refused = ran = 0
    for _ in range(programs):
        code = codes[random.integers(len(codes))]
        ops, arena, window = code.ops.copy(), code.arena, code.window
        for _ in range(random.integers(0, 4)):
            row, column = random.integers(len(ops)), random.integers(ops.shape[1])
            near = int(ops[row, column]) + int(random.integers(-40, 41))
            ops[row, column] = near if random.random() < 0.6 else random.choice(_ODD)
        if random.random() < 0.2:
            arena = int(random.integers(1, arena + 20))
        if random.random() < 0.1:
            ops = ops[: random.integers(len(ops) + 1)]
        constants = code.constants[: random.integers(len(code.constants) // 2, 2**40)]
        for instructions in scoring.instruction_sets():
            try:
                program = scoring.Program(
                    ops.tobytes(), constants.tobytes(), code.outputs.tobytes(), window, arena,
                    instructions,
                )  # fmt: skip
            except (ValueError, MemoryError):
                refused += 1
                continue
            for n in (1, 3, 16, 70):
                x = random.normal(0, 10.0 ** random.integers(-3, 30), (n, window)).astype("f4")
                program.run(x, tuple(np.empty((n, size), "f4") for _, size in code.outputs))
            ran += 1
    return refused, ran


if __name__ == "__main__":
    built = load(sys.argv[1])
    run_every_kind(built)
    print(*fuzz(built, int(sys.argv[2]), int(sys.argv[3])))  # noqa: T201 - its result
