"""Graphs and programs that are damaged: refused, or run within their bounds, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detector.native
from detector.engines import open_graph
from detector.engines.native import WHY_NOT, NativeGraph, instruction_sets
from detector.engines.onnx_file import read_graph
from detector.engines.tensors import UnknownGraphError
from detector.errors import ConfigError
from detector.native import extension
from tests.engines.test_native import CASES, FEATURES, LENGTH, graph_of

SOURCES = Path(detector.native.__file__).parent
needs_the_engine = pytest.mark.skipif(not instruction_sets(), reason=WHY_NOT)
SMALL = graph_of(CASES["reconstruction"], views=False)
LARGE = graph_of(CASES["composite, horizon 2, forward, conditioned=True"], views=True)


@pytest.mark.parametrize("serialized", [SMALL, LARGE], ids=["small", "large"])
def test_a_file_is_read_as_the_library_of_the_format_reads_it(serialized: bytes) -> None:
    found, model = read_graph(serialized), onnx.load_from_string(serialized)
    assert [n.operator for n in found.nodes] == [n.op_type for n in model.graph.node]
    assert [list(n.inputs) for n in found.nodes] == [list(n.input) for n in model.graph.node]
    assert [list(n.outputs) for n in found.nodes] == [list(n.output) for n in model.graph.node]
    for ours, theirs in zip(found.nodes, model.graph.node, strict=True):
        expected = {a.name: onnx.helper.get_attribute_value(a) for a in theirs.attribute}
        plain = {
            name: [v.decode() if isinstance(v, bytes) else v for v in value]
            if isinstance(value, list)
            else value
            for name, value in expected.items()
        }
        assert dict(ours.attributes) == plain
    for tensor in model.graph.initializer:
        expected_array = onnx.numpy_helper.to_array(tensor)
        np.testing.assert_array_equal(found.constants[tensor.name], expected_array)
        assert found.constants[tensor.name].dtype == expected_array.dtype
    assert list(found.outputs) == [o.name for o in model.graph.output]
    assert found.inputs == {"windows": ("n", LENGTH, FEATURES)}


@needs_the_engine
@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_damaged_graph_is_refused_or_runs(data: st.DataObject) -> None:
    damaged = bytearray(SMALL)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        graph = NativeGraph(bytes(damaged), threads=1)
    except UnknownGraphError:
        return
    (name, shape), *_ = graph.inputs.items()
    x = np.zeros((3, *(int(size) for size in shape[1:])), np.float32)
    graph.run(list(graph.outputs), {name: x})


def test_no_byte_of_a_graph_makes_another_error() -> None:
    """Numbers where there should be texts, among others."""
    small = bytearray(SMALL)
    for at in range(200):
        before, small[at] = small[at], 8
        with contextlib.suppress(ValueError):
            read_graph(bytes(small))
        small[at] = before


@needs_the_engine
@pytest.mark.parametrize("instructions", instruction_sets())
@pytest.mark.parametrize("bits", [0x7FC00000, 0x7FC00001, 0xFFC01234, 0x7F800001])
def test_what_is_no_number_stays_none(instructions: str, bits: int) -> None:
    """Whatever its bits: alone, and among others."""
    serialized = graph_of(CASES["reconstruction"], views=False)
    graph = NativeGraph(serialized, threads=1, instructions=instructions)
    x = np.ones((70, LENGTH, FEATURES), np.float32)
    x.view(np.uint32)[3, 1, 0] = bits
    whole, alone = (graph.run(["errors"], {"windows": part})[0] for part in (x, x[3:4]))
    assert np.isnan(whole[3]).all()
    assert np.isnan(alone).all()
    assert np.isfinite(np.delete(whole, 3, axis=0)).all()


def test_what_native_alone_cannot_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"engine: native cannot .* auto can"):
        open_graph(b"no graph", threads=1, engine="native")


def test_without_the_engine_onnx_runtime_takes_over_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No compiler when it was installed, or an extension that was built for another machine."""
    monkeypatch.setattr("detector.engines.native._scoring", None)
    monkeypatch.setattr("detector.engines.native.WHY_NOT", "not built")
    graph = open_graph(SMALL, threads=1)
    assert str(graph.engine) == "onnxruntime: not built"
    assert np.isfinite(
        graph.run(["errors"], {"windows": np.ones((2, LENGTH, FEATURES), "f4")})
    ).all()
    with pytest.raises(ConfigError, match="engine: native cannot run this: not built; auto can"):
        open_graph(SMALL, threads=1, engine="native")
    assert open_graph(SMALL, threads=1, engine="onnxruntime").engine.why == ""


def test_an_extension_of_another_make_is_a_reason_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_other.abi3.so").write_bytes(b"\x7fELF" + b"\0" * 100)
    monkeypatch.setattr(detector.native, "__path__", [str(tmp_path)])
    module, why = extension("_other")
    assert module is None
    assert "cannot be loaded" in why
    assert extension("_none")[1].startswith("_none is not built")


@needs_the_engine
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_no_program_leaves_its_bounds(tmp_path: Path) -> None:
    """Built with sanitizers of addresses and undefined behaviour, on each instruction set."""
    built = tmp_path / "_scoring.so"
    subprocess.run(
        [
            *("gcc", "-shared", "-fPIC", "-g", "-O0", "-std=c11", "-ffp-contract=off"),
            *(
                "-fsanitize=address,undefined",
                "-fno-sanitize-recover=all",
                "-fno-omit-frame-pointer",
            ),
            *("-DPy_LIMITED_API=0x030B0000", f"-I{sysconfig.get_path('include')}"),
            *map(str, sorted(SOURCES.glob("scoring*.c"))),
            *("-o", str(built)),
        ],
        check=True,
    )
    library = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.engines.fuzz_native", str(built), "1", "60"],
        env=os.environ | {
            "LD_PRELOAD": library.stdout.strip(),
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    refused, ran = map(int, done.stdout.split())
    assert min(refused, ran) > 20
