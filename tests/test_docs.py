"""What the documentation names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from detector.bridge.events import Facts
from detector.bridge.mapping import labels_of
from detector.bridge.metrics import bridge_metric_names
from detector.core.alerts import MODEL_DRIFT, NEW_NORMAL, PREDICTION, RECONSTRUCTION, SILENCE
from detector.service.metrics import metric_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
#: Those that the detector raises itself, as Alertmanager is told of them.
ALERTS_ON_SERIES = ["DetectorAnomaly", "DetectorSilence", "DetectorModelDrift", "DetectorNewNormal"]
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
_MODULE = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9]+\.py)`")
_PLACE = re.compile(r"\]\(([^)#:\s]*)#([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_OPTION = re.compile(r"`([a-z_]+\.[a-z_]+)[`:]")
_METRIC = re.compile(r"`(detector_[a-z_]+)[`{]")


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


def anchors(page: Path) -> set[str]:
    """Of the headings, as they are made by GitHub."""
    plain = (re.sub(r"[^\w\- ]", "", h.lower()) for h in _HEADING.findall(page.read_text()))
    return {h.strip().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", [*PAGES, *DECISIONS], ids=lambda page: page.name)
def test_links_into_a_page_lead_to_a_heading(page: Path) -> None:
    for target, place in _PLACE.findall(page.read_text()):
        there = page.parent / target if target else page
        assert there.suffix != ".md" or place in anchors(there), (target, place)


def test_every_alert_that_is_shipped_has_an_entry_in_the_runbook() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules/detector.yml").read_text())
    alerts = [r["alert"] for group in rules["groups"] for r in group["rules"] if "alert" in r]
    entries = re.findall(r"^### (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    assert sorted(entries) == sorted(alerts + ALERTS_ON_SERIES)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (RECONSTRUCTION, "DetectorAnomaly"),
        (PREDICTION, "DetectorAnomaly"),
        (SILENCE, "DetectorSilence"),
        (MODEL_DRIFT, "DetectorModelDrift"),
        (NEW_NORMAL, "DetectorNewNormal"),
    ],
)
def test_alerts_on_series_are_called_as_in_the_runbook(kind: str, name: str) -> None:
    facts = Facts("id", kind, "pump", "opened", "warning", 5.0, "", "", "")
    assert labels_of(facts, {})["alertname"] == name
    assert name in ALERTS_ON_SERIES


def test_options_that_the_runbook_names_exist() -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    named = _OPTION.findall((ROOT / "docs/runbook.md").read_text())
    assert len(named) > 10
    for section, option in (name.split(".") for name in named):
        assert option in config[section], f"{section}.{option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for name in _MODULE.findall(page.read_text()):
        assert (ROOT / name).exists() or (ROOT / "detector" / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_that_are_named_exist(page: Path) -> None:
    unknown = set(_METRIC.findall(page.read_text())) - metric_names() - bridge_metric_names()
    assert not unknown


def test_where_to_change_things_names_files_and_registers() -> None:
    text = (ROOT / "docs" / "changing.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| a")]
    assert len(rows) >= 10
    found = re.findall(r"`([A-Z]+|[a-z_]+)`, `([a-z_/]+\.py)`", "\n".join(rows))
    assert len(found) >= 6
    for register, place in found:
        assert register in (ROOT / "detector" / place).read_text(), (register, place)
