"""Options of the bridge that fit each for itself and not together, or that only look like text."""

from __future__ import annotations

import re
import shlex
from urllib.parse import urlsplit

from detector.config.bridging import BridgeConfig
from detector.errors import ConfigError

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
#: What the bridge itself says of an alert.
OWN_LABELS = ("alertname", "series", "kind", "severity")


def check_bridge(bridge: BridgeConfig) -> None:
    """Raises ConfigError naming the key; what may be secret is not repeated."""
    for name in ("alertmanagers", "webhooks"):
        urls = getattr(bridge, name)
        for url in urls:
            _url(f"bridge.{name}", url)
        if len(set(urls)) < len(urls):
            raise ConfigError(f"bridge.{name}: names one URL twice")
    if bridge.link is not None:
        _url("bridge.link", bridge.link)
    for label, value in bridge.labels.items():
        if not _LABEL.fullmatch(label):
            raise ConfigError(f"bridge.labels: {label!r:.60} is no name of a label, like site")
        if label in OWN_LABELS:
            raise ConfigError(f"bridge.labels: {label} is given by the alert")
        if not value:
            raise ConfigError(f"bridge.labels: {label} is empty: Alertmanager would drop it")
    _command(bridge.exec)
    _secrets(bridge)
    if bridge.key_file is not None and bridge.cert_file is None:
        raise ConfigError("bridge.key_file: needs bridge.cert_file")


def _url(key: str, url: str) -> None:
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        known = False
    if not known or not url.isprintable() or " " in url:
        raise ConfigError(f"{key}: must be a URL like http://host:9093")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{key}: a URL with a password in it would be shown; give alertmanager_username and "
            "alertmanager_password_file, or webhook_authorization_file"
        )
    if parts.fragment:
        raise ConfigError(f"{key}: must be a URL without #")


def _command(command: str | None) -> None:
    if command is None:
        return
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"bridge.exec: {error}: no command line") from None
    if not words or "\0" in command:
        raise ConfigError("bridge.exec: must be a command and its arguments")


def _secrets(bridge: BridgeConfig) -> None:
    for name in ("alertmanager_password", "webhook_authorization"):
        given = getattr(bridge, name)
        if given is not None and getattr(bridge, f"{name}_file") is not None:
            raise ConfigError(f"bridge.{name}: is given twice, also as {name}_file")
        if given is not None and not given.reveal().isprintable():
            raise ConfigError(f"bridge.{name}: must be one line")
    password = bridge.alertmanager_password or bridge.alertmanager_password_file
    if (password is None) != (bridge.alertmanager_username is None):
        raise ConfigError(
            "bridge.alertmanager_username: needs a password (alertmanager_password_file), and it "
            "a username"
        )
