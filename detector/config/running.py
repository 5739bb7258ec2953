"""Options of a daemon that runs: delivery, state, limits, and what people watch."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from detector.config.section import Section, about


class DeliveryConfig(Section, frozen=True):
    """What is guaranteed, and how the loop polls and commits."""

    guarantee: Annotated[
        Literal["exactly_once", "at_least_once"],
        about(
            "exactly_once: Kafka transactions; at_least_once: none, so after a crash an alert may "
            "come twice, with the same id. The embedded broker is always exactly_once."
        ),
    ] = "exactly_once"
    commit_interval_ms: Annotated[
        int,
        Meta(ge=1, le=60_000),
        about(
            "longest time between transactions; an alert that opens or changes commits at once, "
            "its end after 100 ms at most"
        ),
    ] = 100
    max_poll_records: Annotated[int, Meta(ge=1)] = 1024
    max_poll_bytes: Annotated[
        int, Meta(ge=1), about("keys and values of one poll, about; one record may be larger")
    ] = 16_777_216
    retry_timeout_s: Annotated[
        float,
        Meta(ge=0),
        about("how long a broker that does not answer is waited for"),
    ] = 60.0
    start: Annotated[
        Literal["earliest", "latest"], about("where a worker without committed offset begins")
    ] = "earliest"
    on_lost_ticks: Annotated[
        Literal["fail", "continue"],
        about(
            "When retention has deleted ticks that were not read: fail, or continue with empty "
            "windows (counted in detector_lost_records_total)."
        ),
    ] = "fail"
    hang_timeout_s: Annotated[
        float,
        Meta(ge=1),
        about("a round or a transaction that takes longer ends the process (exit code 75)"),
    ] = 60.0
    stop_timeout_s: Annotated[float, Meta(ge=1), about("so does a stop that takes longer")] = 20.0


class StateConfig(Section, frozen=True):
    """What survives a restart, and how often it is written."""

    topic: Annotated[str, about("Kafka, compacted: windows and open alerts of every series")] = (
        "detector-state"
    )
    interval_ms: Annotated[
        int,
        Meta(ge=0, le=600_000),
        about(
            "A series that changed is written once in this time; a restart reads as much of the "
            "ticks topic again. 0 writes with every transaction."
        ),
    ] = 1000


class HttpConfig(Section, frozen=True):
    """Metrics, probes, the page and its API (docs/http-api.md)."""

    host: Annotated[str, about("0.0.0.0 to be scraped from elsewhere")] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(ge=0, le=65535),
        about("the page, its API, /metrics, /livez and /readyz; 0: a free port"),
    ] = 9464


class LimitsConfig(Section, frozen=True):
    """What one process may take."""

    max_series: Annotated[int, Meta(ge=1), about("ticks of further series are rejected")] = 200_000
    forget_after_s: Annotated[
        Annotated[float, Meta(ge=0.001)] | None,
        about(
            "A series is forgotten when it is not heard while the event time of its partition "
            "moves on by more (a sixty-fourth more at most): its open alerts resolve, its state is "
            "deleted, and it warms up if it comes back. Default 90 days; null: never."
        ),
    ] = 7_776_000.0
    threads: Annotated[int, Meta(ge=1, le=256), about("CPU threads of the scoring engine")] = 1


class LogConfig(Section, frozen=True):
    """What is logged, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
