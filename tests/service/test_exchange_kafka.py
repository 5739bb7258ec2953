"""Two workers of one group on a real Kafka follow one link: one is killed while the model changes,
and whoever takes over judges what comes again as it was judged."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from detector.build import make_pipeline, make_track, tick_format
from detector.core.codec import Codec
from detector.core.exchange import exchange
from detector.core.state import WATERMARK_KEY, Watermark, decode_watermark
from detector.model.directory import load_artifact
from detector.model.link import move_link
from tests.artifacts import make_artifact
from tests.faults.crew import Crew
from tests.faults.published import Published, _nothing, process
from tests.faults.scene import LENGTH, Scene, make_scene
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for
from tests.service.changing import stated

pytestmark = pytest.mark.kafka


@pytest.fixture
def scene(kafka: KafkaBroker, tmp_path: Path) -> Scene:
    found = make_scene(
        tmp_path,
        bootstrap_servers=kafka.bootstrap_servers,
        partitions=4,
        state={"interval_ms": 3000},
    )
    for number in (1, 2):
        make_artifact(tmp_path / f"m{number}", length=LENGTH, seed=number, evidence=True)
    found.model_path = tmp_path / "link"
    found.model_path.symlink_to("m1")
    return found


def marks(scene: Scene) -> Mapping[int, list[Watermark]]:
    """Every commit of each partition."""
    found: dict[int, list[Watermark]] = {}
    for record in scene.records(scene.config().state.topic):
        if record.key == WATERMARK_KEY and record.value:
            mark = decode_watermark(record.value, "state")
            found.setdefault(record.partition, []).append(mark)
    return found


def golden(scene: Scene, said: Mapping[int, list[Watermark]]) -> Published:
    """One run over each partition that changes its model where the commits say."""
    config, found = scene.config(), _nothing()
    models = {f"random-{n}": load_artifact(scene.directory / f"m{n}") for n in (1, 2)}
    for block in scene.blocks():
        places, pipeline = stated(said[block.partition]), None
        for at, (_, judge) in enumerate(places):
            model = models[judge.model]
            if pipeline is None:
                pipeline = make_pipeline(config, model)
            else:
                exchange(pipeline, make_track(config, model))
            end = places[at + 1][0] if at + 1 < len(places) else block.next_offset
            part, block = block.split(end)
            if len(part):
                codec = Codec(tick_format(config), model.features.fields)
                process(part, config, codec, pipeline, found)
    return found


def changed(log: str) -> bool:
    return re.search(r"model changed model=random-2", log) is not None


def test_a_change_reaches_both_workers_and_a_kill_in_between_changes_no_alert(
    scene: Scene,
) -> None:
    with Crew(scene) as crew:
        with scene.publishing(ticks=40, every_s=0.1):
            one, two = crew.start(1), crew.start(2)
            for worker in (one, two):
                wait_for(
                    lambda w=worker: "partition restored" in w.log(),  # type: ignore[misc]
                    "it has its share",
                )
            wait_for(lambda: min(scene.committed().values()) > 100, "they work")
            model = load_artifact(scene.directory / "m2")
            move_link(scene.model_path, model, action="promote")
            wait_for(lambda: changed(one.log()) or changed(two.log()), "one has changed")
            first = 1 if changed(one.log()) else 2
            crew.kill(first)  # before all its state is written by the new one
            crew.start(first)
            wait_for(lambda: changed(crew.running[3 - first].log()), "the other has changed, too")
            seen = scene.committed()
            wait_for(
                lambda: all(scene.committed()[p] > at + 50 for p, at in seen.items()),
                "they go on",
                timeout_s=120,
            )
        scene.wait_all_committed()
        for worker in crew.running.values():
            worker.signal(signal.SIGTERM)
        crew.stop_all()
    said = marks(scene)
    assert {m[-1].model for m in said.values()} == {"random-2"}
    assert {m[0].model for m in said.values()} == {"random-1"}
    published = scene.assert_exactly_golden(golden(scene, said))
    text = str(published.alerts)
    assert "random-1" in text
    assert "random-2" in text
