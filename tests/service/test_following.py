"""The model link moves, the configuration is read again, a model is in the shadow: a daemon in a
thread, and who follows beside it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from detector.config import Config, Secret
from detector.errors import ConfigError
from detector.model.directory import load_artifact
from detector.model.link import find_model, move_link
from detector.service.following import Follower
from detector.transport.configured import make_broker, prepare_topics
from tests.artifacts import make_artifact
from tests.processes import by_label, total, wait_for
from tests.records import Sent
from tests.service.watched import LENGTH, Running, make_config, publish, read_all, running


@dataclass
class Scene:
    directory: Path
    link: Path
    config: Config
    run: Running
    follower: Follower
    said: pytest.LogCaptureFixture
    ticks: int = 0
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def feed(self, ticks: int = 200) -> None:
        """Strange ones among them, of four series; until they are committed."""
        records = []
        for _ in range(ticks):
            strange = 30.0 if 80 <= self.ticks % 200 < 120 else 1.0
            tick = {
                "series": f"s{self.ticks % 4}",
                "timestamp": 1_000_000 + self.ticks,
                "value": round(float(self.random.normal(0, strange)), 3),
            }
            records.append(Sent(None, json.dumps(tick).encode()))
            self.ticks += 1
        publish(make_broker(self.config), self.config, records)
        self.run.wait_accounted(self.ticks)

    def counted(self, outcome: str) -> float:
        return total(self.run.metrics(), "detector_model_changes_total", outcome=outcome)

    def wait(self, outcome: str, number: int = 1) -> None:
        wait_for(lambda: self.counted(outcome) >= number, f"{number} {outcome}: {self.said.text}")

    def model(self) -> str:
        return str(self.run.daemon.exchange.snapshot()["model"])

    def alerts(self) -> list[Mapping[str, Any]]:
        """What they say, with the offset of their tick."""
        found = []
        for record in read_all(make_broker(self.config), self.config.alerts.topic):
            event = json.loads(record.value or b"")
            found.append(event["data"] | {"offset": event["data"]["input"]["offset"]})
        return found


def models(directory: Path, *numbers: int, **more: Any) -> None:
    for number in numbers:
        make_artifact(directory / f"m{number}", length=LENGTH, seed=number, evidence=True, **more)


@contextmanager
def scene(
    directory: Path,
    said: pytest.LogCaptureFixture,
    reread: Callable[[Config], Config] = lambda config: config,
    *,
    most_warm: int = 100,
    **sections: Mapping[str, Any],
) -> Iterator[Scene]:
    said.set_level("INFO")
    models(directory, 1, 2)
    link = directory / "model"
    link.symlink_to("m1")
    usual: dict[str, Mapping[str, Any]] = {
        "threshold": {"value": 2.0, "cold_windows": 0},
        "alerts": {"resolve_after": 3},
    }
    config = make_config(directory, **{**usual, **sections})
    artifact, broker = load_artifact(link), make_broker(config)
    prepare_topics(config, broker)
    with running(config, artifact, broker) as run:
        follower = Follower(
            link,
            artifact,
            config,
            lambda: reread(config),
            run.daemon.exchange,
            run.daemon.configure_mutes,
            interval_s=0.05,
            most_warm=most_warm,
        )
        follower.start()
        try:
            yield Scene(directory, link, config, run, follower, said)
        finally:
            follower.close()


def test_a_link_that_moves_changes_the_model_at_a_stated_place_and_alerts_name_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(tmp_path, caplog) as at:
        at.feed()
        move_link(at.link, load_artifact(tmp_path / "m2"), action="promote")
        at.wait("applied")
        assert at.model() == "random-2"
        place = at.run.daemon.exchange.snapshot()["judged_from"][0]
        assert place == 200
        at.feed()
        info = by_label(at.run.metrics(), "detector_model_info", "version")
        assert info == {"random-2": 1}
        judged = {(a["model_version"], a["offset"] >= place) for a in at.alerts()}
        assert judged == {("random-1", False), ("random-2", True)}
        assert "windows go on" in str([getattr(r, "fields", "") for r in caplog.records])
        assert total(at.run.metrics(), "detector_model_exchange_pause_seconds") > 0


def test_a_bad_model_is_refused_counted_and_said_and_the_old_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(tmp_path, caplog) as at:
        graph = tmp_path / "m2" / "scorer.onnx"
        whole = graph.read_bytes()
        graph.write_bytes(whole[:-10])
        at.link.unlink()
        at.link.symlink_to("m2")
        at.wait("refused")
        at.feed()
        assert at.model() == "random-1"
        assert at.counted("refused") == 1, "once, not once a look"
        whys = [getattr(r, "fields", {}).get("why", "") for r in caplog.records]
        assert any("checksum differs" in why for why in whys)
        graph.write_bytes(whole)  # mended in place
        at.wait("applied")
        assert at.model() == "random-2"


def test_a_directory_that_is_copied_file_by_file_is_read_as_a_whole_or_not_at_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(tmp_path, caplog) as at:
        target = tmp_path / "m3"
        target.mkdir()
        at.link.unlink()
        at.link.symlink_to("m3")
        for file in sorted((tmp_path / "m2").iterdir(), key=lambda f: f.name != "manifest.json"):
            content = file.read_bytes()
            for half in (content[: len(content) // 2], content):
                (target / file.name).write_bytes(half)
                at.feed(8)
                assert at.model() in {"random-1", "random-2"}
        at.wait("applied")
        assert at.model() == "random-2"
        assert at.counted("applied") == 1


def test_other_features_warm_up_again_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with scene(tmp_path, caplog) as at:
        make_artifact(tmp_path / "m4", {"v": "abs(value)"}, length=LENGTH, evidence=True)
        at.feed(40)
        at.link.unlink()
        at.link.symlink_to("m4")
        at.wait("refused")  # the configuration names the features
        whys = [getattr(r, "fields", {}).get("why", "") for r in caplog.records]
        assert any("trained on other features" in why for why in whys)


def test_what_may_change_of_the_configuration_changes_and_the_rest_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def reread(_: Config) -> Config:
        return make_config(
            tmp_path,
            threshold={"value": 1.5, "cold_windows": 0},
            alerts={"topic": "elsewhere", "open_after": 1, "resolve_after": 3},
            limits={"max_series": 7},
        )

    with scene(tmp_path, caplog, reread) as at:
        at.feed()
        at.follower.ask()
        at.wait("applied")
        at.feed()
        assert total(at.run.metrics(), "detector_threshold") == 1.5
        thresholds = {
            (a["threshold"], a["offset"] >= 200)
            for a in at.alerts()
            if a["kind"] == "reconstruction_error"
        }
        assert thresholds == {(2.0, False), (1.5, True)}
        named = [
            getattr(r, "fields", {}).get("options")
            for r in caplog.records
            if "without a restart" in r.getMessage()
        ]
        assert named == ["alerts.topic, limits.max_series"]


def test_a_configuration_that_cannot_be_read_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def reread(_: Config) -> Config:
        raise ConfigError("threshold.value: must be a number")

    with scene(tmp_path, caplog, reread) as at:
        at.follower.ask()
        at.wait("refused")
        at.feed(40)
        assert at.model() == "random-1"


def test_a_shadow_scores_publishes_nothing_and_is_compared_then_promoted_warm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models(tmp_path, 2)
    with scene(tmp_path, caplog, model={"shadow": str(tmp_path / "m2")}) as at:
        wait_for(lambda: at.run.daemon.exchange.snapshot()["shadow"] is not None, "a shadow")
        at.feed(400)
        standing = at.run.daemon.exchange.snapshot()["shadow"]
        found = at.run.metrics()
        assert standing["windows"] > 100
        assert total(found, "detector_shadow_windows_total") == standing["windows"]
        assert 0 <= total(found, "detector_shadow_agreement_ratio") <= 1
        assert -1 <= total(found, "detector_shadow_rank_correlation") <= 1
        assert by_label(found, "detector_shadow_info", "version") == {"random-2": 1}
        assert {a["model_version"] for a in at.alerts()} == {"random-1"}
        move_link(at.link, load_artifact(tmp_path / "m2"), action="promote")
        at.wait("applied")
        at.feed()
        assert at.run.daemon.exchange.snapshot()["shadow"] is None
        said = [getattr(r, "fields", {}).get("goes_on", "") for r in caplog.records]
        assert "warm from the shadow" in said
        assert {a["model_version"] for a in at.alerts()} == {"random-1", "random-2"}


def test_with_many_series_a_model_from_the_shadow_begins_from_its_calibration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its state would be written at once: nobody is to wait for that."""
    models(tmp_path, 2)
    shadow = {"shadow": str(tmp_path / "m2")}
    with scene(tmp_path, caplog, most_warm=3, model=shadow) as at:
        wait_for(lambda: at.run.daemon.exchange.snapshot()["shadow"] is not None, "a shadow")
        at.feed()
        move_link(at.link, load_artifact(tmp_path / "m2"), action="promote")
        at.wait("applied")
        at.feed()
        assert at.run.daemon.exchange.snapshot()["shadow"] is None
        said = [getattr(r, "fields", {}).get("goes_on", "") for r in caplog.records]
        assert "windows go on, levels begin from its calibration" in said
        assert {a["model_version"] for a in at.alerts()} == {"random-1", "random-2"}


def test_a_model_is_found_by_its_version_wherever_the_link_pointed(tmp_path: Path) -> None:
    models(tmp_path, 1, 2)
    link = tmp_path / "elsewhere" / "model"
    link.parent.mkdir()
    assert find_model(link, "random-1") is None
    move_link(link, load_artifact(tmp_path / "m1"), action="promote")
    move_link(link, load_artifact(tmp_path / "m2"), action="promote")
    for version in ("random-1", "random-2"):
        found = find_model(link, version)
        assert found is not None
        assert found.version == version
    shutil.rmtree(tmp_path / "m1")
    assert find_model(link, "random-1") is None


def test_a_configuration_with_a_secret_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = {"sasl_plain_password": Secret("s3cret")}

    def other(config: Config) -> Config:
        return msgspec.structs.replace(
            config, threshold=msgspec.structs.replace(config.threshold, value=3.0)
        )

    with scene(tmp_path, caplog, other) as at:
        at.follower._config = msgspec.structs.replace(
            at.config, kafka=msgspec.structs.replace(at.config.kafka, **secret)
        )
        at.follower.ask()
        at.wait("applied")
        assert "s3cret" not in caplog.text


def test_a_shadow_is_judged_by_the_rules_that_are_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Made under others it is made again, so that what is promoted is what is stated."""

    def other(config: Config) -> Config:
        return msgspec.structs.replace(
            config, threshold=msgspec.structs.replace(config.threshold, value=3.0)
        )

    models(tmp_path, 2)
    with scene(tmp_path, caplog, other, model={"shadow": str(tmp_path / "m2")}) as at:
        exchange, pipeline = at.run.daemon.exchange, at.run.daemon._pipeline
        wait_for(lambda: exchange.snapshot()["shadow"] is not None, "a shadow")
        at.feed()
        assert pipeline.beside[0].track.policy.threshold == 2.0
        at.follower.ask()
        at.wait("applied")
        wait_for(lambda: pipeline.beside[0].track.policy.threshold == 3.0, "another shadow")
        at.feed()
        move_link(at.link, load_artifact(tmp_path / "m2"), action="promote")
        at.wait("applied", 2)
        at.feed()
        assert at.model() == "random-2"
        assert pipeline.primary.policy.threshold == 3.0
