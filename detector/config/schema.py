"""Every option with its type, default, limits and what it is for: the one place that says so
(with brokers.py, running.py and bridging.py).

config.yaml, its JSON Schema and the reference page are generated from here (docs/generate.py); a
test holds them together. Structures are frozen: values go to the core, never the whole Config.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from detector.config.bridging import BridgeConfig
from detector.config.brokers import EmbeddedConfig, KafkaConfig, TopicsConfig
from detector.config.maintenance import CommandsConfig, MuteConfig, SilenceConfig
from detector.config.running import (
    DeliveryConfig,
    HttpConfig,
    LimitsConfig,
    LogConfig,
    StateConfig,
)
from detector.config.section import Section, about
from detector.core.moments import TimestampUnit
from detector.core.period import DEFAULT, LONGEST, SHORTEST
from detector.core.thresholds import METHODS, Method
from detector.model.family import (
    KINDS,
    MOST_CONDITIONED_TICKS,
    MOST_LAYERS,
    Activation,
    Kind,
    TargetOrder,
)


class InputConfig(Section, frozen=True):
    """Where ticks come from and how they are written."""

    topic: str = "ticks"
    format: Annotated[
        Literal["json", "msgpack", "packed"],
        about(
            "a record holds one tick (an object) or an array of them; packed: many as columns, for "
            "the highest rates (docs/packed.md)"
        ),
    ] = "json"
    series_from: Annotated[
        Literal["field", "key"], about("where the name of the series stands")
    ] = "field"
    series_field: str = "series"
    timestamp_field: str = "timestamp"
    timestamp_unit: Annotated[
        TimestampUnit,
        about("numbers, or text in UTC unless it has an offset; packed always has nanoseconds"),
    ] = "s"
    label_field: Annotated[str, about("in data files: never a feature")] = "label"
    exclude: Annotated[tuple[str, ...], about("further fields that features: auto leaves out")] = ()
    max_record_bytes: Annotated[int, Meta(ge=1), about("a larger record is rejected")] = 1_000_000
    max_future_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        about(
            "A tick whose time is further past the broker's timestamp of its record is rejected: "
            "accepted, it would make every later tick of its series late. null: no limit."
        ),
    ] = 86_400.0


class WindowConfig(Section, frozen=True):
    """Which ticks make a window."""

    length_ticks: Annotated[
        Annotated[int, Meta(ge=2, le=100_000)] | Literal["auto"],
        about(
            "of one series, in order; auto: whole periods of the training data, "
            f"{SHORTEST} to {LONGEST} ticks, {DEFAULT} where it repeats nothing"
        ),
    ] = DEFAULT
    stride_ticks: Annotated[int, Meta(ge=1), about("from one window to the next")] = 1
    max_gap_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        about("a longer gap restarts the window; null: no gap is too long"),
    ] = None
    silence_s: Annotated[
        Annotated[float, Meta(ge=0.001)] | None,
        about(
            "An alert of kind silence when a series is not heard while the event time of its "
            "partition (the newest time of any series in it) moves on by more; null: none."
        ),
    ] = None


class ModelConfig(Section, frozen=True):
    """The network. `detector inspect` tells what a trained one is."""

    kind: Annotated[
        Kind, about(" ".join(f"{kind}: {facts.in_short};" for kind, facts in KINDS.items())[:-1])
    ] = "reconstruction"
    units: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=4096)], ...],
        Meta(min_length=1, max_length=MOST_LAYERS),
        about("layers of the encoder, LSTM but for dense; the decoder mirrors them"),
    ] = (32, 16)
    activation: Activation = "tanh"
    scaling: Annotated[
        Literal["auto", "per_series", "shared"],
        about(
            "per_series: a model of several series sees each of those it was trained on in a "
            "centre and a scale of its own; shared: all as they are; auto: per_series where a "
            "feature is four times as large in one as in another, or as far away"
        ),
    ] = "auto"
    squash: Annotated[
        float,
        Meta(ge=0.1),
        about("features beyond so many scales from their centre count logarithmically"),
    ] = 4.0
    horizon: Annotated[
        int,
        Meta(ge=1),
        about("prediction, composite: ticks that are predicted, the last ones of the window"),
    ] = 1
    target_order: Annotated[
        TargetOrder,
        about("reconstruction, prediction, composite: reversed says the last tick first"),
    ] = "forward"
    conditioned: Annotated[
        bool,
        about(
            "the same kinds: whether each step of the decoder reads the tick it said before; for "
            f"windows up to {MOST_CONDITIONED_TICKS} ticks"
        ),
    ] = False
    prediction_weight: Annotated[
        float, Meta(ge=0, le=1), about("composite: share of the prediction's error")
    ] = 0.5
    shadow: Annotated[
        str | None,
        about(
            "a model directory that scores the same ticks, publishes nothing, and is compared with "
            "the model in use (docs/changing-models.md)"
        ),
    ] = None


class TrainingConfig(Section, frozen=True):
    """How `detector train` learns, and which ticks it holds out."""

    epochs: Annotated[int, Meta(ge=1), about("at most")] = 30
    patience: Annotated[
        int, Meta(ge=1), about("epochs without a better held-out loss before training stops")
    ] = 5
    batch_size: Annotated[int, Meta(ge=1), about("windows")] = 256
    learning_rate: Annotated[float, Meta(ge=1e-9, le=10)] = 0.002
    steps_per_epoch: Annotated[
        int, Meta(ge=1), about("at least: a short history is gone through several times")
    ] = 20
    windows_per_epoch: Annotated[int, Meta(ge=1), about("at most; drawn anew each epoch")] = 50_000
    validation_fraction: Annotated[
        float,
        Meta(ge=0.01, le=0.5),
        about("of each series' ticks, after the training part: stops it; calibrates the score"),
    ] = 0.1
    calibration_fraction: Annotated[
        float,
        Meta(ge=0.01, le=0.8),
        about("of each series' ticks, the last: calibrates the score"),
    ] = 0.2
    calibration_windows: Annotated[int, Meta(ge=500), about("at most")] = 200_000
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 7
    xla: Annotated[bool, about("compile with XLA")] = True
    max_seconds: Annotated[
        Annotated[float, Meta(ge=0.001)] | None,
        about(
            "A training (each of compare and classify) stops after so long and keeps the best "
            "weights so far; null: no limit."
        ),
    ] = None


class ThresholdConfig(Section, frozen=True):
    """The score above which a window is anomalous. May be changed without training again."""

    method: Annotated[
        Method,
        about("; ".join(f"{name}: {method.__doc__}" for name, method in METHODS.items())),
    ] = "pot"
    false_alarms_per_window: Annotated[
        float,
        Meta(ge=1e-12, le=0.5),
        about("share of normal windows that may exceed the threshold"),
    ] = 1e-4
    false_alarms_per_day: Annotated[
        Annotated[float, Meta(ge=1e-6, le=1e6)] | None,
        about(
            "the budget as alerts a day and series, instead: what the alert rules made of held-out "
            "normal windows tells which threshold that is; null: false_alarms_per_window"
        ),
    ] = None
    fall_back: Annotated[
        bool,
        about(
            "a budget that the held-out windows cannot carry is taken as large as they can; false: "
            "their tail is extrapolated however thin it is"
        ),
    ] = True
    value: Annotated[float | None, about("for method fixed")] = None
    cold_windows: Annotated[
        int,
        Meta(ge=0, le=1_000_000),
        about(
            "a series that was never seen does not alert before so many windows; in the first 32 "
            "its own level is not known"
        ),
    ] = 32
    incident_windows: Annotated[
        int,
        Meta(ge=1, le=1_000_000_000),
        about(
            "an incident that lasts longer, in blocks of 32, is learned from; if its alert is open "
            "still, one of kind new_normal says so"
        ),
    ] = 128
    adaptive: Annotated[
        bool,
        about(
            "the score follows the tail of each series, so that the budget is nearly kept while "
            "the world drifts; false: not by the tail, only by slow levels and spreads"
        ),
    ] = True


class AlertsConfig(Section, frozen=True):
    """When an alert opens, turns critical and resolves, and where it goes."""

    topic: str = "alerts"
    source: Annotated[str, about("the CloudEvents source")] = "/detector"
    open_after: Annotated[int, Meta(ge=1), about("windows above the threshold ...")] = 2
    of_last: Annotated[
        int, Meta(ge=1, le=64), about("... among the last so many open an alert")
    ] = 3
    resolve_after: Annotated[
        int,
        Meta(ge=1),
        about("windows in a row at or below resolve_ratio * threshold resolve it"),
    ] = 10
    resolve_ratio: Annotated[float, Meta(ge=0.01, le=1)] = 1.0
    quiet_s: Annotated[
        float,
        Meta(ge=0, le=1e9),
        about(
            "... and so long, by the times of the ticks, after the last that was above: a burst "
            "within it belongs to the same alert"
        ),
    ] = 0.0
    drift_decades: Annotated[
        Annotated[float, Meta(ge=0.1, le=100)] | None,
        about(
            "an alert of kind model_drift opens when a usual window of a series is as rare as this "
            "by the model's calibration (2.5: one in three hundred); null: none"
        ),
    ] = 2.5
    critical_decades: Annotated[
        float,
        Meta(ge=0, le=100),
        about("so far above the threshold a score is critical: 2 is a hundred times rarer"),
    ] = 2.0
    critical_ratio: Annotated[
        float,
        Meta(ge=1),
        about("the same in thresholds, for models trained before scores were evidence"),
    ] = 3.0


class DeadLettersConfig(Section, frozen=True):
    """What becomes of records that cannot be used."""

    topic: str = "dead-letters"
    max_bytes: Annotated[
        int,
        Meta(ge=1),
        about("a longer record is cut off (its header truncated_from_bytes says so)"),
    ] = 900_000
    late: Annotated[
        bool, about("true: late ticks become dead letters too (they are counted either way)")
    ] = False


class Config(Section, frozen=True):
    """Everything that can be set."""

    transport: Annotated[
        Literal["embedded", "kafka"],
        about("embedded: one SQLite file, one worker; kafka: Apache Kafka"),
    ] = "embedded"
    features: Annotated[
        Literal["auto"] | Annotated[dict[str, str], Meta(min_length=1)],
        about(
            "What the model sees: auto takes every numeric field as it is, but time, series, label "
            "and those of input.exclude. Or name each feature with an expression over the fields "
            "of a tick:\n"
            "  value(x) mid(a, b) spread(a, b) ratio(a, b) abs(x) log(x) sqrt(x) signed_log(x)\n"
            "  diff(x) log_return(x) interarrival()   compare with the previous tick of a series\n"
            "for instance\n"
            "  features:\n"
            "    return: log_return(mid(bid, ask))\n"
            "    spread: spread(bid, ask)\n"
            "    interarrival: interarrival()          # seconds\n"
            "    load: value('CPU load 1m')            # a name with spaces stands in quotes\n"
            "A price that drifts must be given by its return: the model knows only the levels it "
            "has seen."
        ),
    ] = "auto"
    engine: Annotated[
        Literal["auto", "native", "onnxruntime"],
        about("what scores; auto: native if it was built (with a C compiler), else ONNX Runtime"),
    ] = "auto"
    mutes: Annotated[
        tuple[MuteConfig, ...],
        Meta(max_length=1000),
        about(
            "Alerts of these series carry muted: true, at these times; `detector mute` adds others "
            "while workers run (docs/maintenance.md). For instance\n"
            "  mutes:\n"
            '    - {series: "pump-*", since: 2026-11-22T08:00, until: 2026-11-22T12:00}\n'
            '    - {series: "EUR*", cron: "0 2 * * 0", lasts: 4h, time_zone: Europe/Zurich}'
        ),
    ] = ()
    input: InputConfig = field(default_factory=InputConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    dead_letters: DeadLettersConfig = field(default_factory=DeadLettersConfig)
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    state: StateConfig = field(default_factory=StateConfig)
    commands: CommandsConfig = field(default_factory=CommandsConfig)
    silence: SilenceConfig = field(default_factory=SilenceConfig)
    topics: TopicsConfig = field(default_factory=TopicsConfig)
    embedded: EmbeddedConfig = field(default_factory=EmbeddedConfig)
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)


#: Options that had another name: (section, old name) -> name. The old one goes on working.
RENAMED = {("window", "length"): "length_ticks", ("window", "stride"): "stride_ticks"}
