"""Secrets are read where they lie, and certificates are looked at before a broker sees them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from detector.errors import AccessError, ConfigError
from detector.transport.kafka import Security, Source, command, file, given
from tests.secured.authority import Authority, Files

HIDDEN = "hunter2-hunter2"


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    path = tmp_path / "password"
    read = file("option", str(path))
    for text in ("one\n", "two", "t h r e e\r\n"):
        path.write_text(text)
        assert read() == text.rstrip("\r\n")


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"hunter2\nhunter2\n", b"hunter2\xff\n", b"hunter2" * 10_000]
)
def test_a_file_that_holds_no_secret_is_refused_without_its_text(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"option: .*password: must hold the secret") as error:
        file("option", str(path))()
    assert "hunter2" not in str(error.value)
    path.unlink()
    with pytest.raises(ConfigError, match=r"option: .*password: No such file"):
        file("option", str(path))()


def test_a_program_prints_a_token() -> None:
    said = command("option", [sys.executable, "-c", f"print('{HIDDEN}')"])
    assert said() == HIDDEN
    for arguments, wrong in (
        ((sys.executable, "-c", f"print('{HIDDEN}'); exit(3)"), "ended with exit code 3"),
        ((sys.executable, "-c", ""), "must hold the secret"),
        (("/no/such/program", HIDDEN), "No such file"),
    ):
        with pytest.raises(ConfigError, match=wrong) as error:
            command("option", arguments)()
        assert HIDDEN not in str(error.value)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def security(
    authority: Authority, files: Files, *, key: Path | None = None, password: Source | None = None
) -> Security:
    return Security(
        protocol="SSL",
        cafile=str(authority.cafile),
        certfile=str(files.certificate),
        keyfile=str(key or files.key),
        key_password=password,
    )


def test_certificates_that_are_in_force_are_taken(authority: Authority) -> None:
    security(authority, authority.issue("one")).check()
    locked = authority.issue("two", password=HIDDEN)
    security(authority, locked, password=given(HIDDEN)).check()
    both = authority.issue("three").both
    Security(protocol="SSL", certfile=str(both)).check()


def test_what_is_wrong_with_a_certificate_is_said_before_a_broker_sees_it(
    authority: Authority, tmp_path: Path
) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    locked = authority.issue("two", password=HIDDEN)
    with pytest.raises(AccessError, match="certificate has expired: renew it"):
        security(authority, authority.issue("old", expired=True)).check()
    with pytest.raises(ConfigError, match="is not the key of"):
        security(authority, one, key=other.key).check()
    for password in (None, given("wrong")):
        with pytest.raises(ConfigError, match=r"has a password: kafka\.ssl_password_file") as error:
            security(authority, locked, password=password).check()
        assert HIDDEN not in str(error.value)
    with pytest.raises(ConfigError, match="No such file"):
        security(authority, one, key=tmp_path / "none").check()
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cafile: .*: holds no certificate in PEM"):
        Security(protocol="SSL", cafile=str(one.key)).check()
    with pytest.raises(ConfigError, match=r"kafka\.ssl_cafile: /no/such: No such file"):
        Security(protocol="SSL", cafile="/no/such").check()


def test_secrets_stand_in_no_repr(authority: Authority) -> None:
    locked = authority.issue("two", password=HIDDEN)
    of = Security(protocol="SASL_SSL", username="u", password=given(HIDDEN), token=given(HIDDEN))
    assert HIDDEN not in repr(of) + repr(security(authority, locked, password=given(HIDDEN)))
    assert HIDDEN not in repr(of.options())
