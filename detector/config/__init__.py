"""config.yaml and the environment to a frozen Config."""

from detector.config.bridging import BridgeConfig
from detector.config.checks import (
    architecture_of,
    commands_topic,
    configured_mutes,
    expected_quiet,
)
from detector.config.reading import (
    environment_without_options,
    load_config,
    overlay,
    parse_config,
    read_tree,
    shown,
    supervision,
    with_model,
)
from detector.config.schema import AlertsConfig, Config
from detector.config.secret import Secret, plain, redacted

__all__ = [
    "AlertsConfig",
    "BridgeConfig",
    "Config",
    "Secret",
    "architecture_of",
    "commands_topic",
    "configured_mutes",
    "environment_without_options",
    "expected_quiet",
    "load_config",
    "overlay",
    "parse_config",
    "plain",
    "read_tree",
    "redacted",
    "shown",
    "supervision",
    "with_model",
]
