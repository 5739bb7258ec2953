"""The Helm chart's values, files and promises, as far as they can be judged without helm.

What helm makes of it is asked by test_chart_rendered.py (make chart-check).
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import detector
from detector.config import load_config, parse_config
from detector.config.types import sections

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "detector"
TEMPLATES = sorted((CHART / "templates").iterdir())
RULES = DEPLOY / "prometheus" / "rules" / "detector.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "detector.json"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

MINIMAL: dict[str, Any] = {"model": {"volume": {"persistentVolumeClaim": {"claimName": "models"}}}}
FULL: dict[str, Any] = {
    "replicas": 3,
    "config": {"kafka": {"bootstrap_servers": "kafka:9093", "group": "quotes"}},
    "model": {**MINIMAL["model"], "path": "quotes/current"},
    "secrets": {
        "existingSecret": "kafka",
        "files": {"kafka.ssl_cafile": "ca.crt", "kafka.ssl_keyfile": "user.key"},
    },
    "keda": {"enabled": True, "authenticationRef": "kafka"},
    "bridge": {
        "enabled": True,
        "alertmanagers": ["http://one:9093", "http://two:9093"],
        "link": "https://detector.example",
    },
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "networkPolicy": {"enabled": True, "from": [{"podSelector": {}}]},
    "extraEnv": [{"name": "OMP_NUM_THREADS", "value": "1"}],
    "tolerations": [{"operator": "Exists"}],
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
        }
    ],
}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As helm lays values over those of the chart."""
    found = copy.deepcopy(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = merged(found[key], value) if both else value
    return found


def refused(over: dict[str, Any]) -> bool:
    validator = jsonschema.Draft7Validator(SCHEMA)
    return next(validator.iter_errors(merged(DEFAULTS, over)), None) is not None


@pytest.mark.parametrize("over", [{}, MINIMAL, FULL], ids=["defaults", "minimal", "full"])
def test_values_that_are_meant_are_taken(over: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert not refused(over)


@pytest.mark.parametrize(
    "over",
    [
        {"replcas": 3},
        {"replicas": "three"},
        {"replicas": -1},
        {"service": {"port": 70_000}},
        {"config": {"transport": "embedded"}},
        {"config": {"kafka": {"transactional_id": "detector-1"}}},
        {"config": {"kafka": {"group_instance_id": "detector-1"}}},
        {"config": {"kafka": {"sasl_plain_password": "in a ConfigMap"}}},
        {"config": {"bridge": {"alertmanager_password": "in a ConfigMap"}}},
        {"model": {"path": "/absolute"}},
        {"secrets": {"files": {"kafka.ssl_cafile": "../../etc/passwd"}}},
        {"secrets": {"files": {"DETECTOR_X": "key"}}},
        {"podDisruptionBudget": {"maxUnavailable": 0}},
        {"bridge": {"enabled": True}},
        {"bridge": {"alertmanagers": ["alertmanager:9093"]}},
        {"serviceMonitor": {"interval": "soon"}},
        {"resources": {"limits": {"memory": "much"}}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"networkPolicy": {"to": []}},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant_are_refused(over: dict[str, Any]) -> None:
    assert refused(merged(MINIMAL, over))


def test_every_value_has_a_default_and_a_schema() -> None:
    def compare(values: dict[str, Any], schema: dict[str, Any], where: str) -> None:
        if schema.get("additionalProperties") is False:
            known = schema["properties"].keys() - {"global"}
            assert values.keys() == known, where
            for name in known:
                if isinstance(values[name], dict):
                    compare(values[name], schema["properties"][name], f"{where}.{name}")

    compare(DEFAULTS, SCHEMA, "values")


def test_every_value_is_used_and_no_other() -> None:
    text = "\n".join(path.read_text() for path in TEMPLATES)
    asked = {match.split(".")[0] for match in re.findall(r"\.Values\.([\w.]+)", text)}
    assert asked == DEFAULTS.keys()
    deep = set(re.findall(r"\.Values\.(\w+\.\w+)", text))
    for name in deep:
        section, option = name.split(".")
        assert section == "config" or option in DEFAULTS[section], name


def test_the_daemon_understands_the_configuration_and_the_environment_of_the_chart() -> None:
    parse_config(DEFAULTS["config"])
    parse_config(merged(DEFAULTS, FULL)["config"])
    text = (CHART / "templates" / "statefulset.yaml").read_text()
    given = re.findall(r"name: DETECTOR_(\w+?)__(\w+)", text)
    assert len(given) == 4
    for section, option in given:
        fields = {one.name for one in sections()[section.lower()].fields}
        assert option.lower() in fields, (section, option)
    identity = {"DETECTOR_KAFKA__TRANSACTIONAL_ID": "there.{hostname}"}
    assert load_config(None, identity).kafka.transactional_id == "there.{hostname}"
    for option in FULL["secrets"]["files"]:
        section, name = option.split(".")
        assert name in {one.name for one in sections()[section].fields}


def test_the_rules_and_the_dashboard_are_those_of_the_repository() -> None:
    """One file each: helm follows a link when it packs the chart."""
    assert (CHART / "files" / "rules.yml").resolve() == RULES
    assert (CHART / "files" / "dashboard.json").resolve() == DASHBOARD
    assert '.Files.Get "files/rules.yml"' in _template("prometheusrule.yaml")
    assert '.Files.Get "files/dashboard.json"' in _template("dashboard.yaml")


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == detector.__version__


def test_what_may_be_left_out_is_left_out_by_a_value() -> None:
    optional = {
        "bridge.yaml": "bridge.enabled",
        "dashboard.yaml": "dashboard.enabled",
        "networkpolicy.yaml": "networkPolicy.enabled",
        "poddisruptionbudget.yaml": "podDisruptionBudget.enabled",
        "prometheusrule.yaml": "prometheusRule.enabled",
        "scaledobject.yaml": "keda.enabled",
        "serviceaccount.yaml": "serviceAccount.create",
        "servicemonitor.yaml": "serviceMonitor.enabled",
    }
    for name, value in optional.items():
        text = _template(name)
        assert text.startswith(f"{{{{- if .Values.{value} }}}}\n"), name
        assert text.endswith("{{- end }}\n"), name


def test_the_probes_ask_what_the_daemon_answers() -> None:
    text = _template("statefulset.yaml")
    probes = re.findall(r"(\w+)Probe:\n\s+httpGet:\n\s+path: (\S+)", text)
    assert probes == [("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/livez")]


def test_the_operator_scrapes_it_under_the_name_that_the_rules_expect() -> None:
    told = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = told["scrape_configs"]
    workers, bridge = _template("servicemonitor.yaml").split("\n---\n")
    assert [job["job_name"] for job in jobs] == ["detector", "detector-bridge"]
    for job, text in zip(jobs, (workers, bridge), strict=True):
        assert f"targetLabel: job\n          replacement: {job['job_name']}\n" in text
        assert f"path: {job['metrics_path']}\n" in text
    assert "app.kubernetes.io/component: worker" in workers
    assert "app.kubernetes.io/component: bridge" in bridge


def test_a_pod_has_more_time_to_stop_than_the_daemon_takes() -> None:
    config = parse_config(DEFAULTS["config"])
    assert DEFAULTS["terminationGracePeriodSeconds"] > config.delivery.stop_timeout_s


def _template(name: str) -> str:
    return (CHART / "templates" / name).read_text()
