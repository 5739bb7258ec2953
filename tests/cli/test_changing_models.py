"""docs/changing-models.md, command by command, while ticks flow."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

from detector.config import load_config
from detector.core.records import Message
from detector.transport.configured import make_broker, prepare_topics
from tests.cli.making import START_MS, configured, write_csv
from tests.processes import RunningDaemon, by_label, detector, total, wait_for

ROOT = Path(__file__).parents[2]
#: As little as gives a model.
QUICK = {
    "epochs": 1,
    "steps_per_epoch": 2,
    "windows_per_epoch": 512,
    "calibration_windows": 500,
    "xla": False,
    "max_seconds": 5.0,
}


def commands() -> list[str]:
    """Those of the page, in order."""
    text = (ROOT / "docs" / "changing-models.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def ticks(count: int, seed: int) -> list[tuple[str, int, float]]:
    noise = np.random.default_rng(seed).normal(0, 1, count).round(4).tolist()
    return [(f"s{n % 2}", START_MS + 10 * n, value) for n, value in enumerate(noise)]


class Feed:
    """Publishes ticks of two series, a burst of strange ones at the end of each feed."""

    def __init__(self, config: Path, directory: Path) -> None:
        self._config = load_config(config)
        path = directory / self._config.embedded.path
        embedded = type(self._config.embedded)(path=str(path), synchronous="normal")
        self._config = type(self._config)(
            **{f: getattr(self._config, f) for f in self._config.__struct_fields__}
            | {"embedded": embedded}
        )
        self.broker, self.count = make_broker(self._config), 0
        prepare_topics(self._config, self.broker)
        self._random = np.random.default_rng(5)

    def give(self, count: int = 160) -> int:
        messages = []
        for n in range(count):
            value = float(self._random.normal(0, 1)) + (100.0 if 60 <= n < 80 else 0.0)
            at_ms = START_MS + 10 * self.count
            tick = {"series": f"s{self.count % 2}", "timestamp": at_ms, "value": value}
            messages.append(Message(None, json.dumps(tick).encode()))
            self.count += 1
        publisher = self.broker.publisher()
        publisher.publish(self._config.input.topic, messages)
        publisher.flush()
        publisher.close()
        return self.count

    def judged_by(self) -> list[str]:
        reader = self.broker.reader(self._config.alerts.topic, from_beginning=True)
        found = []
        while not reader.at_end():
            found += reader.poll(timeout_s=1.0)
        reader.close()
        return [json.loads(r.value or b"")["data"]["model_version"] for r in found]


@pytest.mark.training
def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        training=QUICK,
        model={"units": [4]},
        threshold={"value": 3.0, "cold_windows": 0},
        alerts={"resolve_after": 4},
    )
    write_csv(tmp_path / "history.csv", ticks(4000, 1))
    write_csv(tmp_path / "recent.csv", ticks(4000, 2))
    (tmp_path / "models").mkdir()
    feed, said = Feed(config, tmp_path), []
    daemon: RunningDaemon | None = None
    try:
        for line in commands():
            program, *arguments = shlex.split(line)
            if program == "ln":
                assert arguments[:1] == ["-s"]
                (tmp_path / arguments[2]).symlink_to(arguments[1])
            elif arguments[0] == "run":
                daemon = RunningDaemon(config, tmp_path / "models/current", cwd=tmp_path)
                daemon.__enter__()
                daemon.wait_ready()
                daemon.wait_accounted(feed.give())
            else:
                assert program == "detector"
                done = detector(*arguments, cwd=tmp_path, timeout_s=300)
                assert done.returncode == 0, done.stderr
                said.append(done.stdout)
                if daemon is not None and arguments[0] in ("promote", "rollback"):
                    changes = "promote" in line and "--dry-run" not in line
                    expected = sum("now " in one for one in said)
                    assert changes is ("now " in done.stdout) or arguments[0] == "rollback"
                    running = daemon
                    wait_for(
                        lambda r=running, e=expected: r.log().count("model changed") >= e,  # type: ignore[misc]
                        "the running detector has changed",
                    )
                    daemon.wait_accounted(feed.give())
        assert daemon is not None
        found = daemon.wait_accounted(feed.count)
        assert by_label(found, "detector_model_changes_total", "outcome")["applied"] == 2
        assert total(found, "detector_state_restored_series_total", result="warming") == 0
        assert daemon.get("/readyz")[0] == 200
        assert daemon.terminate() == 0
        assert "Traceback" not in daemon.log()
    finally:
        if daemon is not None:
            daemon.__exit__(None, None, None)
    assert any("windows go on" in one for one in said)
    models = feed.judged_by()
    line_of_models = [m for m, before in zip(models, ["", *models], strict=False) if m != before]
    first, second, third = line_of_models
    assert first == third != second, "promoted, and rolled back"


def test_a_model_that_does_not_fit_moves_no_link(tmp_path: Path, model: Path) -> None:
    config = configured(tmp_path, window={"length_ticks": 9})
    link = tmp_path / "current"
    done = detector("promote", model, "--model", link, "--config", config, cwd=tmp_path)
    assert done.returncode == 65
    assert "window.length_ticks is 9" in done.stderr
    assert not link.exists()


def test_a_directory_is_no_link_and_is_left_alone(tmp_path: Path, model: Path) -> None:
    config = configured(tmp_path)
    there = tmp_path / "current"
    there.mkdir()
    done = detector("promote", model, "--model", there, "--config", config, cwd=tmp_path)
    assert done.returncode == 65
    assert "ln -s current-1" in done.stderr
    assert there.is_dir()


def test_a_dry_run_moves_nothing_and_history_tells_who(tmp_path: Path, model: Path) -> None:
    config, link = configured(tmp_path), tmp_path / "current"
    given = ("--model", link, "--config", config)
    done = detector("promote", model, *given, "--dry-run", cwd=tmp_path)
    assert "not moved" in done.stdout
    assert not link.exists()
    assert detector("promote", model, *given, "--note", "first", cwd=tmp_path).returncode == 0
    assert link.resolve() == model.resolve()
    told = detector("models", "history", "--model", link, "--json", cwd=tmp_path)
    (move,) = json.loads(told.stdout)
    assert (move["action"], move["note"], move["before"]) == ("promote", "first", "")
    assert "@" in move["who"]
    done = detector("rollback", *given, cwd=tmp_path)
    assert done.returncode == 65
    assert "knows nothing before" in done.stderr


def test_sighup_reads_the_configuration_again(tmp_path: Path, model: Path) -> None:
    config = configured(tmp_path)
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        configured(tmp_path, threshold={"value": 0.5}, limits={"max_series": 9})
        daemon.signal(signal.SIGHUP)
        wait_for(lambda: "model changed" in daemon.log(), "it has changed")
        assert "options=limits.max_series" in daemon.log()
        assert total(daemon.wait_accounted(0), "detector_threshold") == 0.5
        config.write_text("threshold: {value: [}")
        daemon.signal(signal.SIGHUP)
        wait_for(lambda: "refused: the old goes on" in daemon.log(), "it has refused")
        assert daemon.terminate() == 0
