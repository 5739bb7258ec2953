"""Pictures as a user asks for them: drawn, or refused in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.cli.models.making import LENGTH, PNG, TICKS, encode, run_daemon
from tests.integration.commands import refusal, succeeded
from tests.processes import clean_environment, detector

WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from detector.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""


def plot(*arguments: str | Path, cwd: Path) -> bytes:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    done = detector("plot", *arguments, "--out", "p.png", cwd=cwd)
    assert succeeded(done) == "p.png\n"
    return (cwd / "p.png").read_bytes()


@pytest.mark.parametrize(
    ("option", "by"),
    [("--color", "series"), ("--color", "label"), ("--color", "alert"), ("--colour", "label")],
)
def test_embeddings_are_drawn(config: Path, model: Path, data: Path, option: str, by: str) -> None:
    encode(config, model, data, "e.csv")
    drawn = plot("embeddings", "--encodings", "e.csv", option, by, cwd=config.parent)
    assert drawn.startswith(PNG)


def test_embeddings_of_sequences_have_no_alerts_to_color_by(
    config: Path, model: Path, data: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    encode(config, model, data, "e.csv", "--sequences")
    arguments = ("embeddings", "--encodings", "e.csv", "--color", "alert", "--out", "p.png")
    assert "no score" in refusal(detector("plot", *arguments, cwd=config.parent), 65)


@pytest.fixture
def published(config: Path, model: Path, data: Path) -> Path:
    """A directory whose embedded broker holds alerts."""
    assert run_daemon(config, model, data, ticks=sum(TICKS.values()))
    return config.parent


def test_the_window_of_an_alert_is_drawn_from_the_topic_and_from_a_file(published: Path) -> None:
    assert plot("window", "--config", "config.yaml", cwd=published).startswith(PNG)
    events = [json.loads(line) for line in (published / "alerts.jsonl").read_text().splitlines()]
    from_file = ("window", "--alerts", "alerts.jsonl")
    assert plot(*from_file, "--alert", events[0]["id"][:12], cwd=published).startswith(PNG)
    done = detector("plot", *from_file, "--alert", "zz", "--out", "q.png", cwd=published)
    assert f"none of {len(events)} alert events" in refusal(done, 65)
    (published / "other.jsonl").write_text('{"id": 1}\n')
    done = detector("plot", "window", "--alerts", "other.jsonl", "--out", "q.png", cwd=published)
    assert "line 1 is no alert" in refusal(done, 65)
    assert not (published / "q.png").exists()


def test_the_layers_of_a_model_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    make_artifact(tmp_path / "m", length=LENGTH, kind="composite", horizon=3)
    text = succeeded(detector("inspect", "m", "--plot", "layers.svg", cwd=tmp_path))
    assert "composite" in text
    assert "<svg" in (tmp_path / "layers.svg").read_text()


def test_a_model_that_was_not_trained_has_no_curves(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    done = detector("plot", "training", "--model", model, "--out", "p.png", cwd=tmp_path)
    assert "not trained" in refusal(done, 65)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["plot", "embeddings", "--encodings", "e.csv", "--out", "p.png"], "detector[plot]"),
        (["plot", "window", "--out", "p.png"], "detector[plot]"),
        (["inspect", "MODEL", "--plot", "p.png"], "detector[plot]"),
    ],
)
def test_without_matplotlib_a_picture_is_refused_and_says_what_to_install(
    tmp_path: Path, model: Path, arguments: Sequence[str], word: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MATPLOTLIB,
         *(str(model) if a == "MODEL" else a for a in arguments)],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert word in refusal(done, 65)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plot", "training", "--model", "m", "--out", "p.txt"], ["p.txt", ".png"]),
        (["plot", "training", "--out", "p.png"], ["--model"]),
        (["plot", "embeddings", "--out", "p.png"], ["--encodings"]),
        (["plot", "window", "--model", "m", "--out", "p.png"], ["--model", "plot training"]),
        (["plot", "weather", "--out", "p.png"], ["weather", "embeddings"]),
        (["compare", "--data", "d.csv", "--variants", "dense", "--seeds", "0"], ["--seeds"]),
        (["compare", "--data", "d.csv", "--variants", "dense:4"], ["'4'", "option=value"]),
        (["classify", "guess", "--data", "d.csv"], ["guess", "train"]),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    tmp_path: Path, arguments: Sequence[str], words: Sequence[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    line = refusal(detector(*arguments, cwd=tmp_path), 64)
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


def test_the_simulated_market_is_drawn_and_recorded_quotes_beside_it(tmp_path: Path) -> None:
    alone = plot("market", cwd=tmp_path)
    assert alone.startswith(PNG)
    succeeded(detector("simulate", "--out", "q.csv", "--ticks", "900", cwd=tmp_path))
    beside = plot("market", "--data", "mine=q.csv", cwd=tmp_path)
    assert beside.startswith(PNG)
    assert beside != alone
