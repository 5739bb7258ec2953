"""The shipped deployment files parse, fit together and ask only for metrics that exist. Whether the
expressions return data from a running daemon is asked elsewhere, of a real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, ProcessCollector

from detector.bridge.metrics import BridgeMetrics, bridge_metric_names
from detector.config import Config, load_config, types
from detector.service.metrics import Metrics, metric_names
from tests.deploy.dockerfile import context_files, instructions
from tests.deploy.prometheus_server import (
    DASHBOARDS,
    DEPLOY,
    PROMETHEUS_CONFIG,
    panel_expressions,
    panels,
    rule_expressions,
    rule_files,
    without_comparisons,
)

YAML_FILES = sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])
COMPOSE = DEPLOY / "compose.yaml"
DOCKERFILE = DEPLOY / "Dockerfile"
RULE_TESTS = DEPLOY / "prometheus" / "tests" / "detector_test.yml"
EXPRESSIONS = [*rule_expressions(), *panel_expressions()]
ALERTS = [
    rule
    for path in rule_files()
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]

# Words of PromQL that look like names; functions are known by the bracket that follows them.
_PROMQL_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on"})
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")


def test_every_yaml_file_parses() -> None:
    # Helm templates are text until rendered.
    files = [path for path in YAML_FILES if "templates" not in path.parts]
    assert {COMPOSE, PROMETHEUS_CONFIG, RULE_TESTS, *rule_files()} <= set(files)
    for path in files:
        assert all(document for document in yaml.safe_load_all(path.read_text())), path


# --- Prometheus ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", str(PROMETHEUS_CONFIG)),
        ("check", "rules", *map(str, rule_files())),
        ("test", "rules", str(RULE_TESTS)),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [_promtool(), *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_firing_and_silent_in_the_rule_tests() -> None:
    names = {rule["alert"] for rule in ALERTS}
    assert len(names) == len(ALERTS) >= 9
    firing, silent = _rule_test_verdicts(RULE_TESTS.read_text())
    assert firing == names
    assert silent == names


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    named = "{{ $labels.instance }}" in rule["annotations"]["summary"]
    assert named != (rule["alert"] == "DetectorMissing")
    assert len(rule["annotations"]["description"].split()) >= 20
    assert re.fullmatch(r"\d+m", rule["for"])


def test_annotations_name_only_options_that_exist() -> None:
    sections = {name: {one.name for one in of.fields} for name, of in types.sections().items()}
    named = [
        (rule["alert"], section, option)
        for rule in ALERTS
        for section, option in re.findall(
            rf"\b({'|'.join(sections)})\.([a-z]\w*)", rule["annotations"]["description"]
        )
    ]
    assert named
    assert [(a, s, o) for a, s, o in named if o not in sections[s]] == []


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=[n for n, _ in EXPRESSIONS])
def test_expressions_use_only_metrics_of_the_daemon(name: str, expression: str) -> None:
    used = _names_in(expression)
    assert used, f"{name} asks for no metric"
    unknown = {n for n in used if not _is_known(n)}
    assert unknown == set(), name


def test_a_misspelt_metric_would_be_found() -> None:
    expression = 'sum by (reason) (rate(detector_tick_total{outcome="late"}[5m])) > 0 and on () up'
    assert _names_in(expression) == {"detector_tick_total", "up"}
    assert not _is_known("detector_tick_total")
    assert not _is_known("detector_ready_bucket")
    assert not _is_known("process_open_fdss")
    assert not _is_known("detector:ticks:rate6m")


def test_every_comparison_of_an_alert_is_with_a_number() -> None:
    # Otherwise the left side could not be asked by itself, and a test of it would prove nothing.
    for rule in ALERTS:
        left = without_comparisons(rule["expr"])
        assert left != rule["expr"], rule["alert"]
        assert not re.search(r"[<>]|==", _without_text(left)), rule["alert"]


def test_the_daemon_is_scraped_where_it_listens() -> None:
    jobs = yaml.safe_load(PROMETHEUS_CONFIG.read_text())["scrape_configs"]
    assert {job["metrics_path"] for job in jobs} == {"/metrics"}
    ports = {"detector": Config().http.port, "bridge": Config().bridge.port}
    assert {job["job_name"]: job["static_configs"] for job in jobs} == {
        "detector": [{"targets": [f"detector:{ports['detector']}"]}],
        "detector-bridge": [{"targets": [f"bridge:{ports['bridge']}"]}],
    }
    assert {"detector", "bridge"} <= _compose()["services"].keys()


# --- Grafana -------------------------------------------------------------------------------------


def test_the_dashboard_is_complete() -> None:
    dashboard = _dashboard()
    assert dashboard["uid"] == "detector"
    assert dashboard["schemaVersion"] >= 39
    rows = [p["title"] for p in dashboard["panels"] if p["type"] == "row"]
    assert rows == [
        "Overview", "Throughput and lag", "Latency", "Budget", "Scores, thresholds, drift",
        "Alerts", "Model and shadow", "Mutes, bridge, page", "State and process",
    ]  # fmt: skip
    ids = [p["id"] for p in panels(dashboard)]
    assert len(ids) == len(set(ids))
    for panel in (p for p in panels(dashboard) if p["type"] != "row"):
        assert panel["targets"], panel["title"]
        assert panel["description"], panel["title"]
        letters = [t["refId"] for t in panel["targets"]]
        assert len(letters) == len(set(letters)), panel["title"]
        for holder in (panel, *panel["targets"]):
            assert holder["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_panels_lie_beside_each_other_and_never_on_each_other() -> None:
    cells: Counter[tuple[int, int]] = Counter()
    for panel in _dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for x in range(at["x"], at["x"] + at["w"]):
            cells.update((x, y) for y in range(at["y"], at["y"] + at["h"]))
    assert [cell for cell, panels_there in cells.items() if panels_there > 1] == []


def test_no_grafana_variable_is_left_in_an_expression() -> None:
    for name, expression in panel_expressions():
        assert not re.search(r"\$\{?[A-Za-z_]", expression), name
    variables = {v["name"] for v in _dashboard()["templating"]["list"]}
    assert variables == {"datasource", "instance", "page", "runbook"}


def test_links_of_the_dashboard_lead_to_the_page_and_to_entries_of_the_runbook() -> None:
    dashboard = _dashboard()
    assert [link["url"] for link in dashboard["links"]] == ["${page}/", "${runbook}"]
    entries = {f"${{runbook}}#{rule['alert'].lower()}" for rule in ALERTS}
    linked = {
        link["url"]
        for panel in panels(dashboard)
        for link in panel.get("links", [])
        if not link["url"].startswith("${page}")
    }
    assert len(linked) >= 15
    assert linked <= entries


def test_variables_ask_for_metrics_of_the_daemon() -> None:
    queries = [
        v["query"]["query"] for v in _dashboard()["templating"]["list"] if v["type"] == "query"
    ]
    asked = [re.fullmatch(r"label_values\((\w+), \w+\)", query) for query in queries]
    assert asked
    assert all(match and _is_known(match[1]) for match in asked), queries


def test_grafana_finds_the_datasource_and_the_dashboards_that_compose_mounts() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    services = _compose()["services"]
    (source,) = _yaml(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus"
    host, port = source["url"].removeprefix("http://").split(":")
    assert f"127.0.0.1:{port}:{port}" in services[host]["ports"]
    scrape_interval = _yaml(PROMETHEUS_CONFIG)["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scrape_interval

    (provider,) = _yaml(provisioning / "dashboards" / "detector.yaml")["providers"]
    mounts = dict(v.split(":")[:2] for v in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


# --- containers ----------------------------------------------------------------------------------


def test_compose_publishes_on_the_loopback_address_only() -> None:
    ports = [p for service in _compose()["services"].values() for p in service["ports"]]
    assert len(ports) == 6
    assert [p for p in ports if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", p)] == []


def test_compose_waits_only_for_services_that_can_tell() -> None:
    services = _compose()["services"]
    waits = [
        (name, other, how["condition"])
        for name, service in services.items()
        for other, how in service.get("depends_on", {}).items()
    ]
    assert ("detector", "kafka", "service_healthy") in waits
    for name, other, condition in waits:
        assert condition in {"service_healthy", "service_started"}, name
        if condition == "service_healthy":
            assert services[other]["healthcheck"]["test"], (name, other)


def test_compose_mounts_what_exists_and_declares_its_volumes() -> None:
    compose = _compose()
    for name, service in compose["services"].items():
        for volume in service["volumes"]:
            if volume.startswith("${"):  # the user's own configuration and model
                assert name in {"detector", "bridge"}
                continue
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), volume
            else:
                assert source in compose["volumes"], volume


def test_the_daemon_understands_the_environment_it_is_given() -> None:
    (listens,) = re.findall(r"DETECTOR_HTTP__HOST=(\S+)", DOCKERFILE.read_text())
    environment = dict(_compose()["services"]["detector"]["environment"])
    config = load_config(None, {**environment, "DETECTOR_HTTP__HOST": listens})
    assert config.transport == "kafka"
    assert config.kafka.bootstrap_servers == "kafka:19092"
    assert config.topics.create
    assert config.http.host == "0.0.0.0"
    assert "INTERNAL://kafka:19092" in _compose()["services"]["kafka"]["environment"][
        "KAFKA_ADVERTISED_LISTENERS"
    ].split(",")


def test_compose_and_the_local_node_run_the_same_kafka() -> None:
    pom = ElementTree.parse(DEPLOY / "kafka" / "pom.xml")
    version = pom.findtext(".//{*}kafka.version")
    assert version is not None
    assert _compose()["services"]["kafka"]["image"] == f"apache/kafka:{version}"


def test_the_image_runs_the_daemon_as_an_ordinary_user() -> None:
    found = instructions(DOCKERFILE.read_text())
    last = {word: rest for word, rest in found if word != "RUN"}
    user, _, group = last["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert last["EXPOSE"] == str(Config().http.port)
    assert json.loads(last["ENTRYPOINT"]) == ["detector"]
    assert json.loads(last["CMD"]) == [
        "run", "--config", "/etc/detector/config.yaml", "--model", "/var/lib/detector/model",
    ]  # fmt: skip
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert "train" not in " ".join(rest for word, rest in found if word == "RUN")
    # A stage that starts anew: what the build needed is not in the image.
    bases = [rest.split()[0] for word, rest in found if word == "FROM"]
    assert bases == ["debian:trixie-slim", "base", "base"]


def test_the_image_checks_its_health_with_python() -> None:
    (check,) = (r for word, r in instructions(DOCKERFILE.read_text()) if word == "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "HEALTHCHECK", "exec")
    assert f"http://127.0.0.1:{Config().http.port}/livez" in command[2]


def test_the_image_copies_only_what_the_build_context_lets_through() -> None:
    ignore = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
    assert "*" in ignore
    let_through = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for word, rest in instructions(DOCKERFILE.read_text())
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_through
    assert [name for name in copied if not (DEPLOY.parent / name).exists()] == []
    # What was built for this machine stays here.
    files = context_files(DEPLOY.parent, "\n".join(ignore))
    assert {path.suffix for path in files} & {".so", ".pyc"} == set()
    assert DEPLOY.parent / "detector" / "native" / "scoring.c" in {DEPLOY.parent / f for f in files}


# --- reading the files ---------------------------------------------------------------------------


def _promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool not found: install Prometheus (Debian: apt install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def _rule_test_verdicts(text: str) -> tuple[set[str], set[str]]:
    """The alerts that some rule test expects to fire, and those that one expects silent."""
    firing: set[str] = set()
    silent: set[str] = set()
    for test in yaml.safe_load(text)["tests"]:
        for verdict in test.get("alert_rule_test", []):
            (firing if verdict.get("exp_alerts") else silent).add(verdict["alertname"])
        for question in test.get("promql_expr_test", []):
            for sample in question.get("exp_samples", []):
                if sample["labels"].startswith("ALERTS{"):
                    firing.update(re.findall(r'alertname="(\w+)"', sample["labels"]))
    return firing, silent


def _names_in(expression: str) -> set[str]:
    """The metric names in a PromQL expression."""
    bare = _GROUPING.sub(" ", _without_text(expression))
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", bare)
    bare = re.sub(r"(?<![\w:.])[-+]?[\d.]+(?:[eE][-+]?\d+)?(?![\w:])", " ", bare)
    return set(re.findall(r"[A-Za-z_:][\w:]*(?![\w:]|\s*\()", bare)) - _PROMQL_WORDS


def _without_text(expression: str) -> str:
    return re.sub(r'"[^"]*"', '""', expression)


def _is_known(name: str) -> bool:
    if ":" in name:
        return name in {rule for rule, _ in rule_expressions()}
    known = metric_names() | bridge_metric_names() | _process_names() | {"up"}
    if name in known:
        return True
    base = re.sub(r"_(?:bucket|sum|count)$", "", name)
    return base != name and base in _histograms()


def _histograms() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry)
    BridgeMetrics(registry)
    return {family.name for family in registry.collect() if family.type == "histogram"}


def _process_names() -> set[str]:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return {sample.name for family in registry.collect() for sample in family.samples}


def _dashboard() -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((DASHBOARDS / "detector.json").read_text())
    return dashboard


def _compose() -> dict[str, Any]:
    return _yaml(COMPOSE)


def _yaml(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    return tree
