"""The map of who may import whom, read from the source."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import detector

PACKAGE = Path(detector.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

#: Room -> the parts of the package it may import besides itself.
ALLOWED = {
    "errors": set[str](),
    "native": set[str](),
    "core": {"native", "errors"},
    "engines": {"core", "native", "errors"},
    "config": {"core", "model", "errors"},
    "model": {"core", "engines", "errors"},
    "data": {"core", "errors"},
    "transport": {"core", "config", "native", "errors"},
    "build": {"core", "data", "model", "config", "errors"},
    "web": {"errors"},
    "service": {"core", "transport", "model", "build", "config", "errors", "__init__"},
    "offline": {"core", "data", "model", "build", "config", "errors"},
    "evaluate": {"core", "data", "offline", "model", "build", "config", "errors"},
    "clients": {"core", "data", "transport", "build", "config", "errors"},
    "bridge": {"core", "transport", "config", "errors", "__init__"},
    "plots": {"core", "data", "model", "errors"},
    "bench": {
        "core", "data", "engines", "model", "transport", "build", "service", "evaluate", "clients",
        "config", "errors",
    },
    "api": {"core", "data", "model", "build", "config", "offline", "errors"},
    "__init__": {"api", "core", "errors"},
}  # fmt: skip

#: Where a room may import another, but one of its files alone does.
ONLY = {("transport", "config"): {"transport/configured.py"}}

#: Where a room may import another, but one module of that alone.
PART = {("config", "model"): "detector.model.family"}

#: Library -> where alone it may be imported.
CONFINED = {
    "tensorflow": ("model/",),
    "keras": ("model/",),
    "scipy": ("model/",),
    "onnx": ("model/",),
    "openvino": ("model/",),
    "kafka": ("transport/kafka/",),
    "sqlite3": ("transport/embedded/",),
    "prometheus_client": (
        "service/metrics.py", "service/model_metrics.py", "service/assembly.py", "web/", "cli/",
        "bench/stages.py", "bench/shadow.py", "bridge/metrics.py", "bridge/process.py",
    ),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
    "onnxruntime": ("engines/",),
    "pyarrow": ("data/",),
    "matplotlib": ("plots/",),
    "urllib3": ("bridge/http.py",),
    "sklearn": ("evaluate/baselines/isolation.py",),
    "pickle": (),
    "shelve": (),
    "marshal": (),
}  # fmt: skip

CORE_LIBRARIES = {"numpy", "msgspec", "cronsim"}
#: Standard library that would bring the outer world into the core.
IMPURE = {
    "os", "io", "time", "socket", "threading", "multiprocessing", "subprocess", "asyncio",
    "logging", "pathlib", "random", "tempfile", "shutil", "sqlite3", "urllib", "http", "sys",
    "signal", "queue", "uuid", "secrets",
}  # fmt: skip

#: The commands.
TOP = {"cli", "__main__"}


def place(module: Path) -> str:
    return module.relative_to(PACKAGE).as_posix()


def room(module: Path) -> str:
    return place(module).split("/")[0].removesuffix(".py")


def imports(module: Path) -> Iterator[str]:
    """Every imported module by its full name, wherever in the file it stands."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            if node.module in {"detector", "detector.model", "detector.core"}:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def rooms_imported(module: Path) -> set[str]:
    found = set()
    for name in imports(module):
        parts = name.split(".")
        if parts[0] == "detector":
            known = len(parts) > 1 and (PACKAGE / parts[1]).with_suffix(".py").exists()
            known = known or (len(parts) > 1 and (PACKAGE / parts[1]).is_dir())
            found.add(parts[1] if known else "__init__")
    return found


@pytest.mark.parametrize("module", MODULES, ids=place)
def test_a_module_imports_only_rooms_below_it(module: Path) -> None:
    if room(module) in TOP:
        return  # everything is below
    assert room(module) in ALLOWED, "a new room needs a line in the map"
    allowed = ALLOWED[room(module)]
    found = rooms_imported(module) - {room(module)}
    assert found <= allowed
    for other in found:
        assert place(module) in ONLY.get((room(module), other), {place(module)})
    for name in imports(module):
        other = name.partition(".")[2].partition(".")[0]
        assert PART.get((room(module), other), name) == name


@pytest.mark.parametrize("module", MODULES, ids=place)
def test_a_library_stays_in_its_place(module: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(module)}
    for library in libraries & CONFINED.keys():
        assert place(module).startswith(CONFINED[library] or "nowhere"), library


@pytest.mark.parametrize("module", sorted((PACKAGE / "core").rglob("*.py")), ids=place)
def test_the_core_is_pure(module: Path) -> None:
    libraries = {name.split(".")[0] for name in imports(module)} - {"detector"}
    assert libraries - sys.stdlib_module_names <= CORE_LIBRARIES
    assert libraries & IMPURE == set()
    clocks = {"now", "utcnow", "today", "time", "monotonic", "perf_counter"}
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            known = owner.id if isinstance(owner, ast.Name) else ""
            reads_clock = node.func.attr in clocks and known in {"time", "date", "datetime"}
            assert not reads_clock, "the core has no clock"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval"}


def test_only_the_configuration_reads_the_environment() -> None:
    """Keras and TensorFlow take theirs at import, so the module that imports them sets them;
    the benchmark command sets some for NumPy and TensorFlow in the same way, and that of evaluation
    for the processes it starts."""
    touching = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "putenv"}:
                touching.add((place(module), _writes(module, node)))
    assert {p for p, only_writes in touching if not only_writes} == {"config/reading.py"}
    assert {p for p, _ in touching} <= {
        "config/reading.py", "model/backend.py", "cli/benchmarks.py", "cli/evaluation.py",
    }  # fmt: skip


def _writes(module: Path, environ: ast.Attribute) -> bool:
    """Whether this mention only sets a variable: os.environ[...] = or .setdefault(...)."""
    for node in ast.walk(ast.parse(module.read_text())):
        inside = [n for n in ast.walk(node) if getattr(n, "lineno", 0) == environ.lineno]
        if not inside:
            continue
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            target = node.targets[0].value
            if isinstance(target, ast.Attribute) and target.attr == "environ":
                return True
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "setdefault"
            and isinstance(node.func.value, ast.Attribute)
            and node.func.value.attr == "environ"
            and node.lineno == environ.lineno
        ):
            return True
    return False


def test_the_daemon_runs_without_tensorflow_and_the_embedded_one_without_kafka() -> None:
    code = (
        "import sys, detector.service.assembly, detector.offline.train, detector.cli.main\n"
        "print([m for m in ('tensorflow', 'keras', 'scipy', 'onnx', 'kafka', 'pyarrow',"
        " 'matplotlib', 'starlette', 'uvicorn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "module", [*MODULES, *sorted(Path(__file__).parent.rglob("*.py"))], ids=lambda path: path.name
)
def test_no_file_is_too_long_to_be_read_at_once(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= 400, "it knows two things: split it"
