"""Secrets of the configuration are used and not shown."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from detector.config import Config, Secret, load_config, parse_config, plain, redacted, shown
from detector.config.json_schema import json_schema
from detector.config.types import is_secret, sections
from detector.errors import ConfigError
from detector.transport.configured import make_broker
from tests.integration.commands import refusal, succeeded
from tests.processes import detector

ROOT = Path(__file__).parents[2]
HIDDEN = "hunter2-hunter2"


def with_password(**kafka: Any) -> dict[str, Any]:
    return {
        "transport": "kafka",
        "kafka": {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "detector",
            "sasl_plain_password": HIDDEN,
            **kafka,
        },
    }


def test_a_secret_shows_that_there_is_one_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(HIDDEN)
    logging.getLogger("detector").warning("%s %r", secret, [secret])
    said = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", repr({"a": (secret,)})]
    assert not any(HIDDEN in one for one in [*said, caplog.text])
    assert secret.reveal() == HIDDEN
    assert secret == Secret(HIDDEN) != Secret("other")
    writers: list[Callable[[Any], object]] = [json.dumps, msgspec.json.encode, "".join]
    for write in writers:
        with pytest.raises(TypeError):
            write(secret)
    config = parse_config(with_password())
    assert pickle.loads(pickle.dumps(config)) == config, "for the processes of an evaluation"


def test_a_configuration_shows_its_secrets_to_who_asks_for_them() -> None:
    config = parse_config(with_password())
    assert config.kafka.sasl_plain_password == Secret(HIDDEN)
    assert HIDDEN not in repr(config)
    assert HIDDEN not in repr(make_broker(config).__dict__)
    assert redacted(config)["kafka"]["sasl_plain_password"] == "***"
    told = yaml.safe_load(shown(config))
    assert told["kafka"]["sasl_plain_password"] == "***"
    assert told.keys() == redacted(config).keys()
    assert parse_config(plain(config)) == config
    assert parse_config(yaml.safe_load(shown(Config()))) == Config()


def test_options_that_hold_a_password_are_secrets() -> None:
    """Whoever adds one meets this."""
    words = ("password", "secret", "token", "passphrase", "credential", "authorization")
    for section, of in sections().items():
        for field in of.fields:
            named = any(word in field.name for word in words)
            elsewhere = field.name.endswith(("_file", "_command"))
            assert is_secret(field.type) == (named and not elsewhere), (section, field.name)


def test_the_schema_says_that_a_secret_is_only_written() -> None:
    option = json_schema()["$defs"]["KafkaConfig"]["properties"]["sasl_plain_password"]
    assert {"type": "string", "minLength": 1, "writeOnly": True} in option["anyOf"]


@pytest.mark.parametrize(
    "text",
    [
        "kafka: {sasl_plain_password: 20771234}",
        "kafka: {sasl_plain_password: [hunter2-hunter2]}",
        "kafka:\n  sasl_plain_password: 'hunter2-hunter2\n",
        "kafka:\n  sasl_plain_password: hunter2: hunter2-hunter2\n",
        "kafka:\n  sasl_plain_password: *hunter2-hunter2\n",
        "kafka:\n  sasl_plain_password: !hunter2-hunter2 x\n",
        "kafka:\n  sasl_plain_password: @hunter2-hunter2\n",
        "kafka: {sasl_plain_pasword: hunter2-hunter2}",
    ],
)
def test_a_mistake_beside_a_secret_is_told_without_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(path, {})
    assert "hunter2" not in str(error.value)
    assert "20771234" not in str(error.value)
    assert "sasl_plain_pas" in str(error.value) or "line" in str(error.value)


def test_a_mistake_in_the_environment_is_told_without_its_secret() -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, {"DETECTOR_KAFKA__SASL_PLAIN_PASWORD": "[hunter2"})
    assert "hunter2" not in str(error.value)
    assert "SASL_PLAIN_PASWORD" in str(error.value)


@pytest.mark.parametrize(
    ("kafka", "says"),
    [
        ({"sasl_plain_password_file": "x"}, "kafka.sasl_plain_password: stands beside"),
        ({"sasl_plain_password": None}, "kafka.sasl_plain_password_file: .* needs it"),
        ({"sasl_plain_username": None}, "kafka.sasl_plain_username: SCRAM-SHA-512 needs one"),
        ({"sasl_mechanism": None}, "kafka.sasl_mechanism: security_protocol SASL_SSL needs one"),
        ({"sasl_mechanism": "OAUTHBEARER"}, "kafka.sasl_oauth_token_command: .* needs it"),
        ({"security_protocol": "SSL"}, "kafka.sasl_mechanism: is for security_protocol SASL_SSL"),
        ({"ssl_keyfile": "key.pem"}, "kafka.ssl_keyfile: needs its certificate"),
        ({"security_protocol": "SASL_PLAINTEXT", "ssl_cafile": "ca"}, "kafka.ssl_cafile: is for"),
        ({"sasl_mechanism": "GSSAPI"}, "kafka.sasl_mechanism: must be one of OAUTHBEARER"),
    ],
)
def test_what_does_not_fit_together_is_named(kafka: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as error:
        parse_config(with_password(**kafka))
    assert HIDDEN not in str(error.value)


def test_check_shows_the_configuration_in_force_without_secrets(tmp_path: Path) -> None:
    example = ROOT / "deploy" / "examples" / "secured.yaml"
    done = detector("check", "--offline", "--config", example, cwd=tmp_path)
    assert succeeded(done) == "configuration: ok\n"
    environment = {"DETECTOR_KAFKA__SSL_PASSWORD": HIDDEN, "DETECTOR_INPUT__TOPIC": "elsewhere"}
    done = detector("check", "--show", "--config", example, cwd=tmp_path, environment=environment)
    told = yaml.safe_load(succeeded(done))
    assert told["kafka"]["sasl_plain_password_file"] == "/run/secrets/kafka-password"
    assert (told["kafka"]["ssl_password"], told["input"]["topic"]) == ("***", "elsewhere")
    assert HIDDEN not in done.stdout
    environment["DETECTOR_KAFKA__SASL_PLAIN_PASSWORD"] = HIDDEN
    done = detector(
        "check", "--offline", "--config", example, cwd=tmp_path, environment=environment
    )
    assert HIDDEN not in refusal(done, 78)


def test_a_password_file_that_cannot_be_read_ends_with_78(tmp_path: Path) -> None:
    example = ROOT / "deploy" / "examples" / "secured.yaml"
    done = detector("check", "--config", example, cwd=tmp_path)
    line = refusal(done, 78)
    assert "kafka.sasl_plain_password_file: /run/secrets/kafka-password: No such file" in line
