"""An evaluation as a user asks for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.artifacts import make_artifact
from tests.integration.commands import refusal, succeeded
from tests.processes import clean_environment, detector, wait_for, write_config

HEAD = "file,dataset,ticks,features,prefix,vus_width,anomalous,CNN\n"
#: Small enough to be trained in seconds.
TRAINING: dict[str, Any] = {
    "training": {
        "epochs": 1, "windows_per_epoch": 300, "batch_size": 64, "xla": False,
        "calibration_fraction": 0.5, "calibration_windows": 500,
    },
    "window": {"length_ticks": 8},
    "model": {"units": [4]},
}  # fmt: skip


def write_series(path: Path, ticks: int = 3000, *, after: int = 2400) -> Path:
    """A wave of two features with a jump every 200 ticks from `after` on."""
    random = np.random.default_rng(1)
    lines = ["timestamp,f00,f01,label"]
    for n in range(ticks):
        odd = n >= after and n % 200 in range(50, 56)
        noise = random.normal(0, 0.05, 2) + (5.0 if odd else 0.0)
        lines.append(
            f"{n},{np.sin(n / 5) + noise[0]:.5f},{np.cos(n / 7) + noise[1]:.5f},{int(odd)}"
        )
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    make_artifact(tmp_path / "model", {"f00": "f00", "f01": "f01"}, length=8)
    return tmp_path / "model"


def test_a_model_is_measured_on_labelled_files(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("matplotlib")
    config = write_config(
        tmp_path / "config.yaml",
        {"window": {"length_ticks": 8}, "threshold": {"method": "fixed", "value": 1.0}},
    )
    data = write_series(tmp_path / "a.csv")
    done = detector(
        *("evaluate", "--config", config, "--model", model, "--data", data, f"b={data}"),
        *("--prefix", "1000", "--drift", "--out", "report.html", "--json", "report.json"),
        cwd=tmp_path,
    )
    out = succeeded(done)
    assert out.endswith("report.json\nreport.html\n")
    assert "| a | 3000 | 18 |" in out
    assert "| window PCA | baseline | 2 |" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["name"] for one in report["series"]] == ["a", "b"]
    found = report["series"][0]
    assert found["at_threshold"]["events"] == 3
    assert found["rankings"][0]["name"] == "detector"
    assert report["totals"][-1]["recall"]["value"] is not None
    assert "| 1e-3 (0.1 %) |" in out
    assert "3.2e-3" not in out, "a terminal has whole decades"
    assert {point["score"] for point in found["budgets"]} == {"static"}, "the mean has no tails"
    assert "| level +10, sudden | 2 of 2 |" in out
    assert len(report["totals"][-1]["drifts"]) == 11
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")
    assert not list(tmp_path.glob(".*")), "no draft is left"


def test_nothing_that_could_be_evaluated_is_an_error(tmp_path: Path, model: Path) -> None:
    (tmp_path / "a.csv").write_text("timestamp,f00,f01\n1,2,3\n")
    arguments = ("--model", model, "--data", "a.csv", "--json", "report.json")
    done = detector("evaluate", *arguments, cwd=tmp_path)
    assert done.returncode == 65
    assert "| a.csv | has no column 'label' (input.label_field) |" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["series"] == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "name --model and --data, or a --manifest"),
        (("--manifest", "m.csv", "--prefix", "5"), "--manifest takes no --prefix"),
        (("--model", "m", "--data", "d", "--jobs", "2"), "--jobs is for --manifest"),
        (("--manifest", "m.csv", "--jobs", "0"), "--jobs must be at least 1"),
        (("--manifest", "m.csv", "--out", "page.pdf"), "page.pdf: must end in .html"),
        (("--manifest", "m.csv", "--json", "no/r.json"), "no is no directory"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal(detector("evaluate", *arguments, cwd=tmp_path), 64)


@pytest.mark.training
def test_a_manifest_is_run_and_what_cannot_be_is_named(tmp_path: Path) -> None:
    config = write_config(tmp_path / "config.yaml", TRAINING)
    folder = tmp_path / "series"
    folder.mkdir()
    write_series(folder / "a.csv")
    write_series(folder / "short.csv", 60, after=40)
    (folder / "still.csv").write_text(
        "timestamp,f00,label\n" + "".join(f"{n},1,{int(n > 2900)}\n" for n in range(3000))
    )
    manifest = folder / "manifest.csv"
    manifest.write_text(
        HEAD
        + "a.csv,X,3000,2,2300,8,18,0.5\n"
        + "gone.csv,X,3000,2,2300,8,18,0.5\n"
        + "a.csv,X,3000,2,2300,8,19,0.5\n"
        + "short.csv,X,60,2,20,8,6,0.5\n"
        + "still.csv,Y,3000,1,2300,8,99,0.5\n"
    )
    done = detector(
        *("evaluate", "--config", config, "--manifest", manifest, "--jobs", "1"),
        *("--drift", "--json", "report.json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    (found,) = report["series"]
    assert (found["name"], found["dataset"], found["published"]) == ("a.csv", "X", {"CNN": 0.5})
    assert found["rankings"][0]["vus_pr"] > 0.3
    assert {point["score"] for point in found["budgets"]} == {"static", "adaptive"}
    assert "no drift injected: fewer than 500 normal windows would follow" in found["notes"]
    skipped = [(one["name"], one["reason"]) for one in report["skipped"]]
    assert [name for name, _ in skipped] == ["gone.csv", "a.csv", "short.csv", "still.csv"]
    assert "not there" in skipped[0][1]
    assert "18 ticks are labelled, 19 by the manifest" in skipped[1][1]
    assert all(reason and "code" not in reason for _, reason in skipped)
    assert "constant" in skipped[3][1]


@pytest.mark.training
def test_an_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "config.yaml",
        TRAINING | {"training": TRAINING["training"] | {"epochs": 1000, "patience": 1000}},
    )
    write_series(tmp_path / "a.csv")
    row = "a.csv,X,3000,2,2300,8,18,0.5\n"
    (tmp_path / "manifest.csv").write_text(HEAD + row * 2)
    arguments = ("--config", str(config), "--manifest", "manifest.csv", "--jobs", "2")
    place = tmp_path / "temporary"
    place.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "detector", "evaluate", *arguments],
        cwd=tmp_path, env=clean_environment({"TMPDIR": str(place)}), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Of tests in the background the signal may be ignored, which a child inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        try:
            # Each makes a place for its model just before it trains.
            wait_for(lambda: len(list(place.iterdir())) >= 2, "both are about to train")
            assert process.poll() is None
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            out, _ = process.communicate(timeout=120)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, out) == (130, b"")
