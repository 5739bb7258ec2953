"""The targets that a configuration names."""

from __future__ import annotations

import base64
import hashlib
import shlex
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from detector.bridge.alertmanager import Alertmanager
from detector.bridge.command import Command
from detector.bridge.delivery import Feed
from detector.bridge.each_event import EachEvent
from detector.bridge.http import HttpTarget, tls
from detector.bridge.reports import Reports
from detector.bridge.webhook import Webhook
from detector.config import BridgeConfig, Secret, environment_without_options
from detector.errors import ConfigError

Headers = Callable[[], Mapping[str, str]]
MakeFeed = Callable[[Reports, threading.Event], Feed]


@dataclass(frozen=True, slots=True)
class Target:
    """name: kind, host and port, for people, metrics and as the name of its follower. states: it
    is told what is, and so reads the whole topic the first time. insecure: a password would go
    there in the clear."""

    name: str
    make: MakeFeed
    states: bool
    attempt_s: float
    insecure: bool = False


def make_targets(bridge: BridgeConfig) -> list[Target]:
    """Raises ConfigError: a file that cannot be read."""
    urls = (*bridge.alertmanagers, *bridge.webhooks)
    context = tls(bridge.ca_file, bridge.cert_file, bridge.key_file) if urls else None
    targets = []
    if context is not None:
        basic, token = _basic(bridge), _token(bridge)
        targets = [_alertmanager(bridge, url, context, basic) for url in bridge.alertmanagers]
        targets += [_webhook(bridge, url, context, token) for url in bridge.webhooks]
    if bridge.exec is not None:
        targets.append(_command(bridge, bridge.exec))
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"bridge: two targets are {name}: they differ too little")
    return targets


def name_of(kind: str, url: str) -> str:
    """Without path and query, which may be secrets: a hash tells them apart."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    name = f"{kind}-{parts.hostname}:{port}"
    if parts.path.strip("/") or parts.query:
        name += f"-{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}"
    return name


def _alertmanager(
    bridge: BridgeConfig, url: str, context: ssl.SSLContext, headers: Headers
) -> Target:
    def make(reports: Reports, stop: threading.Event) -> Feed:
        return Alertmanager(
            HttpTarget(
                url.rstrip("/") + "/api/v2/alerts",
                timeout_s=bridge.timeout_s,
                context=context,
                headers=headers,
            ),
            reports,
            resolve_timeout_s=bridge.resolve_timeout_s,
            keep_firing_s=bridge.keep_firing_s,
            labels=bridge.labels,
            link=bridge.link,
            attempt_s=2 * bridge.timeout_s,
            longest_wait_s=bridge.longest_wait_s,
            stop=stop,
        )

    clear = bridge.alertmanager_username is not None and not url.startswith("https:")
    return Target(name_of("alertmanager", url), make, True, 2 * bridge.timeout_s, clear)


def _webhook(bridge: BridgeConfig, url: str, context: ssl.SSLContext, headers: Headers) -> Target:
    def make(reports: Reports, stop: threading.Event) -> Feed:
        target = HttpTarget(url, timeout_s=bridge.timeout_s, context=context, headers=headers)
        return EachEvent(
            Webhook(target, mode=bridge.webhook_mode),
            reports,
            attempt_s=2 * bridge.timeout_s,
            longest_wait_s=bridge.longest_wait_s,
            give_up_after_s=bridge.give_up_after_s,
            stop=stop,
        )

    clear = bool(headers()) and not url.startswith("https:")
    return Target(name_of("webhook", url), make, False, 2 * bridge.timeout_s, clear)


def _command(bridge: BridgeConfig, command: str) -> Target:
    def make(reports: Reports, stop: threading.Event) -> Feed:
        return EachEvent(
            Command(
                shlex.split(command),
                timeout_s=bridge.exec_timeout_s,
                link=bridge.link,
                environment=environment_without_options(),
            ),
            reports,
            attempt_s=bridge.exec_timeout_s,
            longest_wait_s=bridge.longest_wait_s,
            give_up_after_s=bridge.give_up_after_s,
            stop=stop,
        )

    return Target("exec", make, False, bridge.exec_timeout_s)


def _basic(bridge: BridgeConfig) -> Headers:
    user = bridge.alertmanager_username
    if user is None:
        return dict
    password = _secret(
        bridge.alertmanager_password,
        bridge.alertmanager_password_file,
        "bridge.alertmanager_password_file",
    )

    def headers() -> Mapping[str, str]:
        both = f"{user}:{password()}".encode()
        return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}

    headers()  # a file that is missing is said now
    return headers


def _token(bridge: BridgeConfig) -> Headers:
    if bridge.webhook_authorization is None and bridge.webhook_authorization_file is None:
        return dict
    value = _secret(
        bridge.webhook_authorization,
        bridge.webhook_authorization_file,
        "bridge.webhook_authorization_file",
    )

    def headers() -> Mapping[str, str]:
        return {"Authorization": value()}

    headers()
    return headers


def _secret(given: Secret | None, file: str | None, key: str) -> Callable[[], str]:
    """Read anew each time: a secret in a file may be exchanged."""

    def read() -> str:
        if file is None:
            return given.reveal() if given is not None else ""
        try:
            text = Path(file).read_text().strip()
        except OSError as error:
            raise ConfigError(f"{key}: {file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise ConfigError(f"{key}: {file}: is no text") from None
        if not text or not text.isprintable():
            raise ConfigError(f"{key}: {file}: must hold one line")
        return text

    return read
