"""JSON Schemas of Kubernetes' kinds for kubeconform, from what the Go module proxy has.

Knows where the definitions are in the modules and how a schema must look that refuses unknown
fields. Must not know the chart.
"""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

KUBERNETES = "1.34.1"
#: Of the API server; its test of a manifest is not stricter than this.
_API = f"k8s.io/kubernetes@v{KUBERNETES}"
#: For a kind that is not here kubeconform finds no schema, and says so.
_KINDS = {
    "ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount",
    "StatefulSet",
}  # fmt: skip
#: module -> the definitions of resources that it holds.
_CUSTOM = {
    "github.com/prometheus-operator/prometheus-operator@v0.91.0": [
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
    "github.com/kedacore/keda/v2@v2.18.0": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
}
#: As kubeconform is told to look for them.
PATTERN = "{{ .ResourceKind }}{{ .KindSuffix }}.json"


def write_schemas(folder: Path) -> None:
    """One file a kind that a chart may hold."""
    folder.mkdir(parents=True, exist_ok=True)
    swagger = json.loads((_module(_API) / "api/openapi-spec/swagger.json").read_text())
    definitions = swagger["definitions"]
    for definition in definitions.values():
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            if kind["kind"] in _KINDS:
                _write(folder, kind, _closed(_without_references(definition, definitions, ())))
    for module, files in _CUSTOM.items():
        for file in files:
            resource = yaml.safe_load((_module(module) / file).read_text())["spec"]
            for version in resource["versions"]:
                kind = {
                    "kind": resource["names"]["kind"],
                    "group": resource["group"],
                    "version": version["name"],
                }
                _write(folder, kind, _closed(version["schema"]["openAPIV3Schema"]))


def _module(module: str) -> Path:
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Path(json.loads(done.stdout)["Dir"])


def _write(folder: Path, kind: dict[str, str], schema: dict[str, Any]) -> None:
    parts = [kind["kind"].lower(), kind["group"].split(".")[0], kind["version"]]
    name = "-".join(part for part in parts if part)  # the core group has no name
    (folder / f"{name}.json").write_text(json.dumps(schema))


def _without_references(schema: Any, definitions: dict[str, Any], within: tuple[str, ...]) -> Any:
    """Each in its place, but one that holds itself: anything may stand there."""
    if isinstance(schema, list):
        return [_without_references(one, definitions, within) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name in within:
            return {}
        return _without_references(definitions[name], definitions, (*within, name))
    return {k: _without_references(v, definitions, within) for k, v in schema.items()}


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy that refuses fields it does not name, with numbers or text where both may be."""
    closed = copy.deepcopy(schema)
    for key in ("apiVersion", "kind"):
        closed.get("properties", {}).setdefault(key, {"type": "string"})
    closed.get("properties", {}).setdefault("metadata", {"type": "object"})
    _close(closed)
    closed["properties"]["metadata"].pop("additionalProperties", None)
    return closed


def _close(schema: Any) -> None:
    if not isinstance(schema, dict):
        return
    either = schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string"
    if either or str(schema.get("description", "")).startswith("Quantity is a fixed-point"):
        for key in ("format", "anyOf", "pattern"):
            schema.pop(key, None)
        schema["type"] = ["string", "number"]
    fields = schema.get("properties", {})
    if fields and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for one in fields.values():
        _close(one)
    for key in ("items", "additionalProperties"):
        _close(schema.get(key))
