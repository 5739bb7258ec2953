"""config.yaml and the environment to a frozen Config."""

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
    with_model,
)
from detector.config.schema import AlertsConfig, Config

__all__ = [
    "AlertsConfig",
    "Config",
    "architecture_of",
    "commands_topic",
    "configured_mutes",
    "environment_without_options",
    "expected_quiet",
    "load_config",
    "overlay",
    "parse_config",
    "read_tree",
    "with_model",
]
