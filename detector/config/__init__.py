"""config.yaml and the environment to a frozen Config."""

from detector.config.bridging import BridgeConfig
from detector.config.checks import architecture_of
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
    "BridgeConfig",
    "Config",
    "architecture_of",
    "environment_without_options",
    "load_config",
    "overlay",
    "parse_config",
    "read_tree",
    "with_model",
]
