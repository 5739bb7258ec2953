"""detector inside Quix Streams: a topic of ticks in, a topic of alerts out.

    pip install -e . quixstreams           # in a clone of detector
    python docs/examples/quix_operator.py --broker localhost:9092

Quix Streams owns the topics, the consumer group and the state store; the detector is one function
of a tick and the state of its series. That state (one window, the open alert, a few counters) lies
in Quix' store beside the committed offsets, so a restart or another worker goes on where this one
stood, and with exactly-once processing no alert is lost or repeated. Series do not leave by
themselves (limits.forget_after_s, alerts of silence): Quix alone knows which there are.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from quixstreams import Application, message_context
from quixstreams.state import State

import detector

LOGGER = logging.getLogger("detector.quix")


class Operator:
    """Ticks of one series (the message key) at a time."""

    def __init__(self, model: str, config: dict[str, Any]) -> None:
        limits = {**config.get("limits", {}), "forget_after_s": None}
        self.detector = detector.load(model, config={**config, "limits": limits})

    def __call__(
        self, tick: dict[str, Any], key: bytes, timestamp: int, headers: Any, state: State
    ) -> list[bytes]:
        series = key.decode()
        saved = state.get_bytes("detector")
        if saved is not None:
            self.detector.restore(saved)
        try:
            # The offset for position: the same tick gives the same alert id for ever.
            found = self.detector.update(
                series, tick.get("timestamp"), tick, position=message_context().offset
            )
        except detector.DataError as error:
            LOGGER.warning("a tick of %s is rejected: %s", series, error)
            return []
        finally:
            state.set_bytes("detector", self.detector.save([series]))
            # Memory would be older after a rebalance or an abort, and hold whoever ever came by.
            self.detector.forget([series])
        for reason in found.rejected.values():
            LOGGER.warning("a tick of %s is rejected: %s", series, reason)
        return [self.detector.encode(alert) for alert in found.alerts]


def application(
    broker: str, model: str, *, ticks: str, alerts: str, group: str, config: dict[str, Any]
) -> Application:
    app = Application(
        broker_address=broker,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=f"state-{group}",
        consumer_extra_config={"session.timeout.ms": 10_000},  # then a dead worker is replaced
    )
    watch = Operator(model, config)
    frame = app.dataframe(app.topic(ticks, value_deserializer="json", key_deserializer="bytes"))
    frame = frame.apply(watch, stateful=True, metadata=True, expand=True)
    frame.to_topic(app.topic(alerts, value_serializer="bytes"))
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--broker", default="localhost:9092")
    model = str(Path(__file__).parent / "model")
    parser.add_argument("--model", default=model, help="a model directory")
    parser.add_argument("--ticks", default="ticks", help="the topic of ticks")
    parser.add_argument("--alerts", default="alerts", help="the topic of alerts")
    parser.add_argument("--group", default="detector-quix")
    options = parser.parse_args()
    app = application(
        options.broker,
        options.model,
        ticks=options.ticks,
        alerts=options.alerts,
        group=options.group,
        config={"threshold": {"false_alarms_per_window": 1e-5}},
    )
    app.run()


if __name__ == "__main__":
    main()
