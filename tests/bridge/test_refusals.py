"""What cannot be is said before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detector.bridge.targets import make_targets, name_of
from detector.config import parse_config
from detector.errors import ConfigError
from tests.processes import detector, write_config


@pytest.mark.parametrize(
    ("bridge", "words"),
    [
        ({"alertmanagers": ["localhost:9093"]}, "bridge.alertmanagers: must be a URL"),
        ({"alertmanagers": ["ftp://x"]}, "bridge.alertmanagers: must be a URL"),
        ({"alertmanagers": ["http://"]}, "bridge.alertmanagers: must be a URL"),
        ({"alertmanagers": ["http://x:99999"]}, "bridge.alertmanagers: must be a URL"),
        ({"alertmanagers": ["http://[::1"]}, "bridge.alertmanagers: must be a URL"),
        ({"webhooks": ["http://x/a b"]}, "bridge.webhooks: must be a URL"),
        ({"webhooks": ["http://x/\n"]}, "bridge.webhooks: must be a URL"),
        ({"webhooks": ["http://me:sekret@x/"]}, "bridge.webhooks: a URL with a password"),
        ({"webhooks": ["http://x/#a"]}, "bridge.webhooks: must be a URL without #"),
        ({"webhooks": ["http://x", "http://x"]}, "bridge.webhooks: names one URL twice"),
        ({"webhook_mode": "batch"}, "bridge.webhook_mode: must be one of binary, structured"),
        ({"link": "javascript:alert(1)"}, "bridge.link: must be a URL"),
        ({"labels": {"a-b": "x"}}, "bridge.labels: 'a-b' is no name of a label"),
        ({"labels": {"severity": "x"}}, "bridge.labels: severity is given by the alert"),
        ({"labels": {"site": ""}}, "bridge.labels: site is empty"),
        ({"labels": {"site": 3}}, "bridge.labels"),
        ({"exec": "a 'b"}, "bridge.exec: No closing quotation"),
        ({"exec": " "}, "bridge.exec: must be a command"),
        ({"resolve_timeout_s": 0}, "bridge.resolve_timeout_s: must be from 1 to 86400"),
        ({"key_file": "k"}, "bridge.key_file: needs bridge.cert_file"),
        ({"alertmanager_username": "me"}, "bridge.alertmanager_username: needs a password"),
        (
            {"webhook_authorization": "a\nb"},
            "bridge.webhook_authorization: must be one line",
        ),
        (
            {"webhook_authorization": "sekret", "webhook_authorization_file": "f"},
            "bridge.webhook_authorization: is given twice",
        ),
        ({"topic": "alerts"}, "bridge.topic: alerts is another topic already"),
        ({"alertmanager": []}, "bridge.alertmanager: unknown option; did you mean"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_refused_by_its_name(bridge: Any, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config({"bridge": bridge})
    assert words in str(raised.value)
    assert "sekret" not in str(raised.value)


@pytest.mark.parametrize(
    ("bridge", "words"),
    [
        ({"ca_file": "no.pem"}, "bridge.ca_file: no.pem: No such file"),
        ({"ca_file": "junk"}, "bridge.ca_file: junk"),
        ({"cert_file": "junk"}, "bridge.cert_file: junk"),
        ({"webhook_authorization_file": "no"}, "bridge.webhook_authorization_file: no: No such"),
        ({"webhook_authorization_file": "empty"}, "empty: must hold one line"),
        ({"webhook_authorization_file": "binary"}, "binary: is no text"),
    ],
    ids=str,
)
def test_a_file_that_is_of_no_use_is_named(
    bridge: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("junk").write_text("no certificate")
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff\xfe")
    config = parse_config({"bridge": bridge | {"webhooks": ["https://x"]}})
    with pytest.raises(ConfigError) as raised:
        make_targets(config.bridge)
    assert words in str(raised.value)


def test_a_target_is_named_without_what_may_be_secret() -> None:
    assert name_of("alertmanager", "http://am:9093/") == "alertmanager-am:9093"
    assert name_of("webhook", "https://hooks.example") == "webhook-hooks.example:443"
    secret = name_of("webhook", "https://hooks.example/T00/s3cret?token=x")
    assert secret.startswith("webhook-hooks.example:443-")
    assert "s3cret" not in secret
    assert "token" not in secret
    assert secret != name_of("webhook", "https://hooks.example/T00/other")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--bridge"], 64, "the configuration names no target"),
        (["--webhook-mode", "binary"], 64, "--webhook-mode needs a target"),
        (["--metrics-port", "1"], 64, "--metrics-port needs a target"),
        (["--exec", "true", "--exit"], 64, "--exit: a bridge prints nothing"),
        (["--exec", "true", "--json"], 64, "--to and --json: a bridge prints nothing"),
        (["--exec", "true", "--metrics-port", "70000"], 64, "--metrics-port must be"),
        (["--webhook", "nowhere"], 78, "bridge.webhooks: must be a URL"),
        (["--exec", "true", "--link", "x"], 78, "bridge.link: must be a URL"),
    ],
    ids=str,
)
def test_a_command_line_that_cannot_be_is_refused(
    options: list[str], code: int, words: str, tmp_path: Path
) -> None:
    done = detector("alerts", *options, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.rglob("*.sqlite"))


def test_check_reads_the_files_of_the_bridge_and_shows_no_secret(tmp_path: Path) -> None:
    tree = {
        "webhooks": ["https://hooks.example/sekret-path"],
        "webhook_authorization": "Bearer sekret",
        "exec": "page",
    }
    config = write_config(tmp_path / "config.yaml", {"bridge": tree})
    done = detector("check", "--offline", "--config", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "bridge: ok (webhook-hooks.example:443-" in done.stdout
    assert "exec)" in done.stdout
    assert "sekret" not in done.stdout + done.stderr
    write_config(config, {"bridge": tree | {"ca_file": "gone.pem"}})
    done = detector("check", "--offline", "--config", config, cwd=tmp_path)
    assert done.returncode == 78
    assert "bridge.ca_file: gone.pem: No such file" in done.stderr


def test_a_port_that_is_taken_ends_it(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = detector("alerts", "--exec", "true", "--metrics-port", str(port), cwd=tmp_path)
    assert done.returncode == 78
    assert f"bridge.port: cannot listen on 127.0.0.1:{port}" in done.stderr
