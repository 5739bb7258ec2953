"""The chart as helm renders it, against the schemas of Kubernetes (make chart-check)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.kube_schemas import KUBERNETES, PATTERN, write_schemas
from tests.deploy.test_chart import CHART, FULL, MINIMAL, RULES

pytestmark = [pytest.mark.outside, pytest.mark.timeout(1800)]

TOP = Path(__file__).resolve().parents[2]
#: Where make chart-check puts helm and kubeconform.
TOOLS = Path(os.environ.get("CHART_TOOLS", TOP / "build" / "tools"))
CASES = {"minimal": MINIMAL, "full": FULL}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schemas")
    write_schemas(folder)
    return folder


@pytest.fixture(params=CASES)
def values(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(CASES[request.param]))
    return path


def test_helm_has_nothing_to_say_against_it(values: Path) -> None:
    helm("lint", "--strict", str(CHART), "--values", str(values))


def test_kubernetes_would_take_what_it_renders(values: Path, schemas: Path) -> None:
    done = kubeconform(rendered(values), schemas)
    assert done.returncode == 0, done.stdout
    assert "Errors: 0, Skipped: 0" in done.stdout


def test_a_field_that_is_misspelt_would_be_found(tmp_path: Path, schemas: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(FULL))
    text = rendered(path)
    for right, wrong in (
        ("podManagementPolicy:", "podManagmentPolicy:"),
        ("maxUnavailable: 1", "maxUnavailable: [1]"),
        ("maxReplicaCount:", "maxReplicas:"),
        ("relabelings:", "relabeling:"),
        ("runAsNonRoot: true", "runAsNonRoot: yes please"),
    ):
        assert right in text
        assert kubeconform(text.replace(right, wrong), schemas).returncode != 0, wrong


def test_each_worker_has_an_identity_that_a_restart_keeps(values: Path) -> None:
    (worker,) = of_kind(values, "StatefulSet")
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    # A pod's host name is its name, which a StatefulSet gives to one at a time.
    for name in ("TRANSACTIONAL_ID", "GROUP_INSTANCE_ID"):
        assert variables[f"DETECTOR_KAFKA__{name}"] == "there.{hostname}"


def test_every_process_runs_without_rights(values: Path) -> None:
    pods = [
        one["spec"]["template"]["spec"]
        for kind in ("StatefulSet", "Deployment")
        for one in of_kind(values, kind)
    ]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"]
            assert not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["readinessProbe"]
            assert container["livenessProbe"]


def test_the_rules_arrive_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(FULL))
    (rule,) = of_kind(path, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(RULES.read_text())


def test_a_packed_chart_holds_what_its_links_lead_to(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(FULL))
    helm("package", str(CHART), "--destination", str(tmp_path))
    (packed,) = tmp_path.glob("*.tgz")
    version = ["--kube-version", KUBERNETES]
    text = helm("template", "r", str(packed), "-n", "there", "--values", str(path), *version)
    assert list(yaml.safe_load_all(text)) == list(yaml.safe_load_all(rendered(path)))


def test_with_keda_nobody_else_counts_the_workers(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(FULL))
    (worker,) = of_kind(path, "StatefulSet")
    assert "replicas" not in worker["spec"]
    (scaled,) = of_kind(path, "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == worker["metadata"]["name"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["consumerGroup"] == "quotes"


@pytest.mark.parametrize(
    "setting",
    ["replcas=3", "bridge.enabled=true", "config.transport=embedded", "model.volume=null"],
)
def test_values_that_cannot_be_meant_are_refused(setting: str, tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(MINIMAL))
    done = run_helm("template", "r", str(CHART), "--values", str(path), "--set", setting)
    assert done.returncode != 0
    assert setting.split("=")[0].split(".")[0] in done.stderr


def rendered(values: Path) -> str:
    version = ["--kube-version", KUBERNETES]
    return helm("template", "r", str(CHART), "-n", "there", "--values", str(values), *version)


def of_kind(values: Path, kind: str) -> list[dict[str, Any]]:
    documents = yaml.safe_load_all(rendered(values))
    return [one for one in documents if one is not None and one["kind"] == kind]


def helm(*arguments: str) -> str:
    done = run_helm(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TOOLS / "helm"), *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def kubeconform(text: str, schemas: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(TOOLS / "kubeconform"), "-strict", "-summary", "-kubernetes-version", KUBERNETES,
            "-schema-location", f"{schemas}/{PATTERN}",
        ],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip
