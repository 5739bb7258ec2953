"""The permissions that docs/security.md grants, read from its commands."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
_OPERATIONS = {
    "Read": ACLOperation.READ,
    "Write": ACLOperation.WRITE,
    "Describe": ACLOperation.DESCRIBE,
    "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS,
    "Alter": ACLOperation.ALTER,
}
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
}


def documented() -> list[ACL]:
    """What every command of the page grants."""
    lines = PAGE.read_text().splitlines()
    return [acl for line in lines if line.startswith("acl --") for acl in _granted(line)]


def of_user(user: str) -> list[ACL]:
    return [acl for acl in documented() if acl.principal == f"User:{user}"]


def name(acl: ACL) -> str:
    return f"{acl.operation.name} {acl.resource_pattern.resource_name}"


def grant(admin: Any, acls: list[ACL]) -> None:
    failed = admin.create_acls(acls)["failed"]
    assert not failed, failed


def revoke(admin: Any, acl: ACL) -> None:
    pattern = acl.resource_pattern
    chosen = ACLFilter(
        principal=acl.principal,
        host=acl.host,
        operation=acl.operation,
        permission_type=acl.permission_type,
        resource_pattern=ResourcePatternFilter(
            pattern.resource_type, pattern.resource_name, pattern.pattern_type
        ),
    )
    [(_, matched, error)] = admin.delete_acls([chosen])
    assert len(matched) == 1, (acl, matched, error)


def _granted(line: str) -> list[ACL]:
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--allow-principal", required=True)
    parser.add_argument("--operation", action="append", required=True, choices=_OPERATIONS)
    parser.add_argument("--resource-pattern-type", default="literal", choices=["prefixed"])
    for resource in _RESOURCES:
        option = f"--{resource.replace('_', '-')}"
        parser.add_argument(option, action="append", default=[])
    found = parser.parse_args(shlex.split(line)[1:])
    pattern = ACLResourcePatternType[found.resource_pattern_type.upper()]
    return [
        ACL(
            principal=found.allow_principal,
            host="*",
            operation=_OPERATIONS[operation],
            permission_type=ACLPermissionType.ALLOW,
            resource_pattern=ResourcePattern(kind, of, pattern),
        )
        for resource, kind in _RESOURCES.items()
        for of in getattr(found, resource)
        for operation in found.operation
    ]
