"""Where the time of a daemon goes while it works off a backlog, as a flame graph.

py-spy looks at the daemon from outside, so it is hardly slower for it. Where py-spy is not
installed the daemon runs under cProfile, which sees its main thread, the loop's, and charges for
every call of a Python function: use its order, not its times.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from detector.bench.load import bench_config, publish, watch
from detector.bench.machine import FIELDS, Results, model_to_measure
from detector.clients.daemon_process import DaemonProcess
from detector.config import Config, load_config
from detector.errors import DetectorError, UsageError
from detector.transport.configured import make_broker, prepare_topics

#: py-spy's name of what a file should hold, by its ending.
_FORMATS = {".svg": "flamegraph", ".json": "speedscope", ".txt": "raw"}
_SAMPLES_PER_S = 200
_WRITING_S = 60.0


def profile(config: Config, model: Path | None, ticks: int, out: Path) -> Results:
    """Writes the profile. Without py-spy: out with the ending .pstats, for `python -m pstats`."""
    if out.suffix not in _FORMATS:
        raise UsageError(f"--out must end in {', '.join(_FORMATS)}: {out}")
    spy = _py_spy()
    written = out if spy else out.with_suffix(".pstats")
    if not written.parent.is_dir():
        raise UsageError(f"--out: there is no folder {written.parent}")
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        if artifact.features.fields != FIELDS:
            raise UsageError("bench profile runs the reference model only: leave out --model")
        path = bench_config(config, directory)
        bench = load_config(path, {})
        prepare_topics(bench, make_broker(bench))
        publish(bench, ticks, rate=None, spikes=False, first=0)
        under = () if spy else ("-m", "cProfile", "-o", str(written.absolute()))
        log = directory / "daemon.log"
        with DaemonProcess(path, artifact.path, log, under=under) as daemon:
            daemon.wait_ready()
            if spy is None:
                rate, cpu_s = watch(daemon, ticks)
            else:
                watching = _start(spy, daemon.pid, written)
                try:
                    rate, cpu_s = watch(daemon, ticks)
                finally:
                    said = _end(watching)
                if not written.exists():
                    raise DetectorError(f"py-spy wrote nothing: {said}")
    found: Results = {
        "profile": str(written),
        "by": "py-spy" if spy else "cProfile (a flame graph needs py-spy: pip install py-spy)",
        "ticks": ticks,
        "ticks_per_s": round(rate),
        "cpu_us_per_tick": round(cpu_s / ticks * 1e6, 1),
    }
    return found


def _py_spy() -> str | None:
    """Beside this Python, or on the path."""
    own = Path(sysconfig.get_path("scripts")) / "py-spy"
    return str(own) if own.exists() else shutil.which("py-spy")


def _start(spy: str, pid: int, out: Path) -> subprocess.Popen[str]:
    out.unlink(missing_ok=True)
    command: Sequence[str] = [
        *(spy, "record", "--pid", str(pid), "--output", str(out)),
        *("--format", _FORMATS[out.suffix], "--rate", str(_SAMPLES_PER_S)),
    ]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def _end(watching: subprocess.Popen[str]) -> str:
    """It writes what it has, and what it said is returned."""
    if watching.poll() is None:
        watching.send_signal(signal.SIGINT)
    try:
        _, said = watching.communicate(timeout=_WRITING_S)
    except subprocess.TimeoutExpired:
        watching.kill()
        _, said = watching.communicate()
    return " ".join(said.split())[-300:]
