"""The commands: arguments in, text or JSON out. No logic; each imports what it needs, so that
`run`, `score`, `alerts` and `publish` never load TensorFlow and start quickly."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from detector import __version__
from detector.errors import BrokerError, DetectorError, UsageError
from detector.model_commands import add_model_commands
from detector.terminal import (
    add_data_arguments,
    counted,
    data_files,
    moment,
    print_table,
    progress_bar,
    read_config,
    shown,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        code: int = options.command(options)
    except DetectorError as error:
        print(f"detector: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `detector alerts | head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception:  # the outermost loop: say it, and end with the code for our own bugs
        logging.getLogger("detector").exception("internal error")
        return 70
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(UsageError.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="detector", description=__doc__ and "Streaming anomaly detector.")
    parser.add_argument("--version", action="version", version=f"detector {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, function: Any, text: str, *, config: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=function)
        if config:
            command.add_argument(
                "--config", type=Path, metavar="FILE", help="config.yaml; default: all defaults"
            )
        return command

    demo = add("demo", _demo, "Train, run, inject faults, report: all in one", config=False)
    demo.add_argument("--json", action="store_true", help="one JSON object as the last line")
    demo.add_argument("--seed", type=int, default=7)
    demo.add_argument("--keep", type=Path, metavar="DIR", help="work in DIR and leave it there")

    simulate = add("simulate", _simulate, "Write simulated ticks to a CSV file", config=False)
    simulate.add_argument("--out", type=Path, required=True, metavar="FILE")
    simulate.add_argument("--faults-out", type=Path, metavar="FILE", help="the faults, as JSON")
    simulate.add_argument("--series", type=int, default=4)
    simulate.add_argument("--ticks", type=int, default=10_000, help="ticks of each series")
    simulate.add_argument("--faults-per-kind", type=int, default=0)
    simulate.add_argument("--seed", type=int, default=7)

    publish = add("publish", _publish, "Publish the ticks of a data file")
    add_data_arguments(publish)
    publish.add_argument("--rate", type=float, metavar="R", help="ticks a second; default: all")
    publish.add_argument("--json", action="store_true")

    train = add("train", _train, "Train and calibrate a model")
    add_data_arguments(train)
    train.add_argument("--out", type=Path, required=True, metavar="DIR")
    train.add_argument("--json", action="store_true")

    score = add("score", _score, "Score a data file, one row a tick")
    add_data_arguments(score)
    score.add_argument("--model", type=Path, required=True, metavar="DIR")
    score.add_argument("--out", type=Path, required=True, metavar="FILE")
    score.add_argument("--json", action="store_true")

    run = add("run", _run, "Run the daemon until SIGTERM")
    run.add_argument("--model", type=Path, required=True, metavar="DIR")

    alerts = add("alerts", _alerts, "Follow the alert topic")
    alerts.add_argument("--from-beginning", action="store_true")
    alerts.add_argument("--exit", action="store_true", help="end when all is read")
    alerts.add_argument("--json", action="store_true", help="the events as they are, one a line")

    letters = add("dead-letters", _dead_letters, "Show dead letters, or publish them again")
    letters.add_argument("--reason", metavar="R", help="only those rejected for R")
    letters.add_argument("--since", metavar="TIME", help="only those written from this time on")
    letters.add_argument(
        "--republish",
        action="store_true",
        help="publish the raw records to the ticks topic again, after a fix",
    )
    letters.add_argument("--json", action="store_true", help="one JSON object a line")

    state = add("state", _state, "Look at the saved state, or start over on purpose")
    state.add_argument("action", choices=["show", "reset", "grow"], nargs="?", default="show")
    state.add_argument(
        "--to",
        choices=["committed", "state", "earliest", "latest"],
        help="reset: go on from the committed offset, from where the state stands (and keep it), "
        "from the oldest tick or from now",
    )
    state.add_argument("--json", action="store_true")

    check = add("check", _check, "Check configuration, model and broker without running")
    check.add_argument("--model", type=Path, metavar="DIR")
    check.add_argument("--offline", action="store_true", help="do not ask the broker")

    add_model_commands(add)

    bench = add("bench", _bench, "Measure speed beside the machine's own")
    bench.add_argument(
        "what", choices=["scoring", "pipeline", "memory", "startup", "delivery", "recovery"]
    )
    bench.add_argument("--model", type=Path, metavar="DIR", help="default: the reference model")
    bench.add_argument("--ticks", type=int, default=200_000)
    bench.add_argument("--json", action="store_true")
    return parser


# -- commands


def _demo(options: argparse.Namespace) -> int:
    import tempfile

    from detector.lab.demo import run_demo
    from detector.lab.following import alert_line

    def say(text: str) -> None:
        print(f"demo: {text}", file=sys.stderr if options.json else sys.stdout, flush=True)

    def show(event: dict[str, Any], _: float) -> None:
        if event["data"]["state"] != "resolved":
            say(alert_line(event))

    with contextlib.ExitStack() as stack:
        if options.keep:
            directory = options.keep
        else:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="detector-")))
        result = run_demo(directory, seed=options.seed, say=say, show=show)
    if options.json:
        print(json.dumps(dataclasses.asdict(result)))
        return 0
    rate = result.false_alarms_per_100k_windows
    delay = result.tick_to_alert_ms
    by_kind = ", ".join(f"{kind} {found}" for kind, found in result.by_kind.items())
    print_table(
        [
            ("ticks", f"{result.ticks}"),
            ("windows scored", f"{result.windows}"),
            ("alerts opened", f"{result.alerts_opened}"),
            ("faults injected", f"{result.injected}"),
            ("faults detected", f"{result.detected} ({by_kind})"),
            ("event precision", shown(result.precision)),
            ("event recall", shown(result.recall)),
            ("false alarms per 100 000 windows", shown(rate)),
            ("tick to alert, p50", f"{shown(delay['p50'])} ms"),
            ("tick to alert, p99", f"{shown(delay['p99'])} ms"),
            ("wall time", f"{result.wall_s} s"),
        ]
    )
    return 0


def _simulate(options: argparse.Namespace) -> int:
    from detector.lab.demo import write_csv
    from detector.lab.simulate import simulate

    for name, number, least in (
        ("series", options.series, 1),
        ("ticks", options.ticks, 1),
        ("faults-per-kind", options.faults_per_kind, 0),
        ("seed", options.seed, 0),
    ):
        if number < least:
            raise UsageError(f"--{name} must be at least {least}")
    try:
        simulation = simulate(
            series=options.series,
            ticks_per_series=options.ticks,
            faults_per_kind=options.faults_per_kind,
            seed=options.seed,
            start_ns=1_700_000_000 * 10**9,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        write_csv(simulation, options.out)
        if options.faults_out:
            faults = [dataclasses.asdict(fault) for fault in simulation.faults]
            options.faults_out.write_text(json.dumps(faults, indent=2) + "\n")
    except OSError as error:
        raise UsageError(f"{error.filename or options.out}: {error.strerror}") from None
    print(f"{len(simulation)} ticks, {len(simulation.faults)} faults: {options.out}")
    return 0


def _publish(options: argparse.Namespace) -> int:
    from detector.core.features import FeatureSet
    from detector.lab.publishing import publish_files

    config = read_config(options)
    fields = None
    if not isinstance(config.features, str):
        fields = FeatureSet.parse(config.features).fields
    if options.rate is not None and options.rate <= 0:
        raise UsageError("--rate must be above 0")
    with progress_bar("publish", " ticks") as bar:
        total = publish_files(
            config, data_files(options), fields=fields, rate=options.rate, sent=bar.update
        )
    if options.json:
        print(json.dumps({"published": total}))
    else:
        print(f"published {total} ticks to {config.input.topic}")
    return 0


def _train(options: argparse.Namespace) -> int:
    from detector.lab.offline import train_model

    config = read_config(options)
    files = data_files(options)
    with contextlib.ExitStack() as stack:
        reading = stack.enter_context(progress_bar("read", " ticks"))
        bars: list[Any] = []

        def progress(epoch: int, loss: float, validation_loss: float) -> None:
            bars[0].set_postfix_str(f"loss {loss:.4f} held out {validation_loss:.4f}")
            bars[0].update(1)

        def read(ticks: int) -> None:
            reading.update(ticks)

        bars.append(stack.enter_context(progress_bar("train", " epochs", config.training.epochs)))
        report = train_model(config, files, options.out, progress=progress, read=read)
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
        return 0
    if report.constant_features:
        names = ", ".join(report.constant_features)
        print(f"note: constant in the training data: {names}", file=sys.stderr)
    print_table(
        [
            ("ticks", f"{report.ticks} ({counted(report.outcomes)})"),
            ("windows", counted(report.windows)),
            ("features", ", ".join(report.features)),
            ("parameters", str(report.parameters)),
            ("epochs", f"{report.epochs}, {shown(report.epochs_per_s)} a second"),
            ("loss", f"{report.loss:.5f}, held out {report.validation_loss:.5f}"),
            ("held-out error", f"{report.held_out_error:.5f} of the exported graph"),
            ("threshold", f"{report.threshold:.4f}"),
            ("model", f"{options.out} ({report.model_version})"),
        ]
    )
    return 0


def _score(options: argparse.Namespace) -> int:
    from detector.artifact import load_artifact
    from detector.lab.offline import score_files

    config = read_config(options)
    artifact = load_artifact(options.model)
    files = data_files(options)
    draft = options.out.with_name(f".{options.out.name}.draft")
    try:
        with draft.open("w", newline="") as out, progress_bar("score", " ticks") as bar:
            report = score_files(config, artifact, files, out, read=bar.update)
        draft.replace(options.out)
    except OSError as error:
        raise UsageError(f"{options.out}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
    if options.json:
        print(json.dumps(dataclasses.asdict(report)))
        return 0
    looks = f" (look like: {counted(report.faults)})" if report.faults else ""
    print_table(
        [
            ("ticks", f"{report.ticks} ({counted(report.outcomes)})"),
            ("anomalous windows", f"{report.anomalous} above {report.threshold:.4f}"),
            ("alerts opened", f"{report.alerts}{looks}"),
            ("scores", str(options.out)),
        ]
    )
    return 0


def _run(options: argparse.Namespace) -> int:
    from prometheus_client import CollectorRegistry

    from detector.artifact import load_artifact
    from detector.service import logs
    from detector.service.http import HttpServer
    from detector.service.wiring import make_broker, make_daemon, prepare_topics

    config = read_config(options)
    logs.configure(level=config.log.level, form=config.log.format)
    artifact = load_artifact(options.model)
    broker = make_broker(config)
    registry = CollectorRegistry()
    daemon = make_daemon(config, artifact, broker, registry)
    for number in (signal.SIGTERM, signal.SIGINT):  # nothing is under way yet
        signal.signal(number, lambda *_: sys.exit(0))
    server = HttpServer(
        host=config.http.host,
        port=config.http.port,
        registry=registry,
        live=daemon.live,
        ready=daemon.ready,
        facts=lambda: daemon.facts(broker.describe()),
    )
    server.start()
    try:
        logs.event("starting", broker=broker.describe(), model=artifact.version)
        logs.event("serving", address=server.address)
        prepare_topics(config, broker, check_state=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: daemon.stop())
        daemon.run()
    finally:
        server.close()
    return 0


def _alerts(options: argparse.Namespace) -> int:
    from detector.lab.following import alert_line, decode, follow_alerts

    def show(value: bytes) -> None:
        print(value.decode() if options.json else alert_line(decode(value)), flush=True)

    follow_alerts(
        read_config(options),
        from_beginning=options.from_beginning,
        forever=not options.exit,
        show=show,
    )
    return 0


def _dead_letters(options: argparse.Namespace) -> int:
    from detector.lab.letters import letter_line, read_letters, republish

    config = read_config(options)
    letters = read_letters(config, reason=options.reason, since_ns=moment(options.since))
    if options.republish:
        done = republish(config, letters)
        if options.json:
            print(json.dumps(dataclasses.asdict(done)))
            return 0
        print(f"published {done.published} records to {config.input.topic} again")
        for count, why in (
            (done.cut_off, "only their beginning was kept (dead_letters.max_bytes)"),
            (done.elsewhere, "they came from another ticks topic"),
            (done.late, "they are late, now as then"),
        ):
            if count:
                print(f"{count} were not: {why}")
        return 0
    for letter in letters:
        print(json.dumps(letter.as_json()) if options.json else letter_line(letter), flush=True)
    return 0


def _state(options: argparse.Namespace) -> int:
    from detector.service.keeping import grow_state, reset_state, show_state

    config = read_config(options)
    if options.action == "reset" and options.to is None:
        raise UsageError(
            "state reset needs --to: state (go on where the saved state stands, and keep it), "
            "committed, earliest or latest (go on there with empty windows)"
        )
    if options.action != "reset" and options.to is not None:
        raise UsageError(f"state {options.action} takes no --to: that is for state reset")
    if options.action == "grow":
        before, after = grow_state(config)
        if options.json:
            print(json.dumps({"before": before, "after": after}))
        else:
            print(f"{config.state.topic}: {before} partitions before, {after} now")
        return 0
    if options.action == "reset":
        done = reset_state(config, options.to)
        print(json.dumps(done) if options.json else "\n".join(done))
        return 0
    rows = show_state(config)
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    for row in rows:
        print(
            f"{config.input.topic}/{row.partition}: committed {_or_none(row.committed)}, state "
            f"{_or_none(row.state)} (reads again from {_or_none(row.needed_from)}), "
            f"log {row.first} ... {row.end}, {row.series} series, {row.bytes} bytes, "
            f"model {row.model or 'none'}"
        )
    return 0


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)


def _check(options: argparse.Namespace) -> int:
    from detector.core.features import FeatureSet
    from detector.service.wiring import make_broker, make_pipeline, topics

    config = read_config(options)
    if not isinstance(config.features, str):
        FeatureSet.parse(config.features)
    print("configuration: ok")
    if options.model:
        from detector.artifact import load_artifact

        artifact = load_artifact(options.model)
        threshold = make_pipeline(config, artifact).policy.threshold
        kind = artifact.manifest["model"]["kind"]
        print(f"model: ok ({artifact.version}, {kind}, threshold {threshold:.4f})")
    if not options.offline:
        broker = make_broker(config)
        missing = broker.missing(topics(config))
        if missing and not config.topics.create:
            raise BrokerError(
                f"{broker.describe()}: missing topics {', '.join(missing)}; create them or set "
                "topics.create: true"
            )
        will = f"; will create {', '.join(missing)}" if missing else ""
        print(f"broker: ok ({broker.describe()}{will})")
    return 0


def _bench(options: argparse.Namespace) -> int:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the ceiling is that of one thread; read at import
    from detector.lab import bench, bench_delivery

    benchmarks = {
        "scoring": bench.scoring,
        "pipeline": bench.pipeline,
        "memory": bench.memory,
        "startup": bench.startup,
        "delivery": bench_delivery.delivery,
        "recovery": bench_delivery.recovery,
    }
    results = benchmarks[options.what](read_config(options), options.model, options.ticks)
    if options.json:
        print(json.dumps(results))
    else:
        print_table([(name, f"{value:g}" if isinstance(value, float) else str(value))
                for name, value in results.items()])  # fmt: skip
    return 0
