"""config.yaml and the environment to a frozen Config: the only reader of the environment.

An environment variable DETECTOR_SECTION__OPTION (for instance DETECTOR_KAFKA__SASL_PLAIN_PASSWORD)
overrides the file. What may be a secret stands in no message.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec import inspect

from detector.config.checks import check_together
from detector.config.refusals import explain
from detector.config.schema import RENAMED, Config, ModelConfig
from detector.config.secret import decode_secret, plain, redacted
from detector.config.types import is_secret, option, sections
from detector.errors import ConfigError
from detector.model.family import OPTIONS_OF_KINDS

_ENVIRONMENT_PREFIX = "DETECTOR_"
_QUOTED = re.compile(r"'[^'<]{2,}'")  # of the file, as YAML's errors quote it
_LOGGER = logging.getLogger("detector.config")


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 as text; everyone who writes it means the number."""


_Loader.yaml_implicit_resolvers = {
    first: list(several) for first, several in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """YAML without repeated keys: of two sections of one name the first would be forgotten."""
    left, seen = [yaml.compose(text, _Loader)], set()
    while left:
        node = left.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                name = (key.tag, str(key.value))
                if name in keys and not key.tag.endswith(":merge"):
                    again = f"{key.value} again"
                    raise yaml.MarkedYAMLError(problem=again, problem_mark=key.start_mark)
                keys.add(name)
                left.append(value)
        else:
            left += node.value
    return yaml.load(text, _Loader)


def read_tree(path: Path) -> Any:
    """What a file holds, before it is checked; {} where it is empty. Raises ConfigError."""
    try:
        tree = read_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:  # bad UTF-8, a date that is none
        raise ConfigError(f"{path}: not YAML: {_without_its_text(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    return {} if tree is None else tree


def _without_its_text(error: Exception) -> str:
    """What is wrong and where: the line itself may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return type(error).__name__ if isinstance(error, yaml.YAMLError) else str(error)
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    what = _QUOTED.sub("...", ", ".join(part for part in parts if part))
    return f"{what} in line {mark.line + 1}, column {mark.column + 1}"


def load_config(path: Path | None, environment: Mapping[str, str] | None = None) -> Config:
    """Read a file (None: the defaults) and the environment. Raises ConfigError."""
    tree = {} if path is None else read_tree(path)
    overlay(tree, os.environ if environment is None else environment)
    return parse_config(tree)


def shown(config: Config) -> str:
    """All of it as YAML, for people: a secret shows that there is one."""
    return yaml.safe_dump(redacted(config), sort_keys=False, allow_unicode=True)


def environment_without_options() -> dict[str, str]:
    """For a child process whose configuration is a file alone."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_ENVIRONMENT_PREFIX)}


def supervision(environment: Mapping[str, str] | None = None) -> tuple[str | None, int | None]:
    """Where a service manager listens (NOTIFY_SOCKET), and after how many microseconds without a
    word it ends this process (WATCHDOG_USEC); None: it does not. As sd_notify(3) has it."""
    given = os.environ if environment is None else environment
    address = given.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        if address:
            _LOGGER.warning("NOTIFY_SOCKET=%s: only a path or an @name is known", address)
        return None, None
    watched, whose = given.get("WATCHDOG_USEC", ""), given.get("WATCHDOG_PID", "")
    ours = not whose or whose == str(os.getpid())
    return address, int(watched) if ours and watched.isdecimal() and int(watched) else None


def overlay(tree: Any, environment: Mapping[str, str]) -> None:
    """Write DETECTOR_SECTION__OPTION=value into the tree; values are read as YAML."""
    for variable, text in sorted(environment.items()):
        if not variable.startswith(_ENVIRONMENT_PREFIX) or not isinstance(tree, dict):
            continue
        *within, name = variable.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__")
        if not within and name not in Config.__struct_fields__:
            # Kubernetes sets DETECTOR_PORT and the like for a service of that name.
            _warn_of_likely_slip(variable)
            continue
        target = tree
        for section in within:
            if target.get(section) is None:
                target[section] = {}
            target = target[section]
            if not isinstance(target, dict):
                raise ConfigError(f"environment variable {variable}: {section} is no section")
        # A secret made of digits stays text: the option's type decides.
        try:
            target[name] = text if _is_text([*within, name]) else read_yaml(text)
        except (yaml.YAMLError, ValueError):
            known = option([*within, name]) is not None
            shown = f"{text!r:.60}" if known else "it: is it an option?"
            raise ConfigError(f"environment variable {variable}: cannot read {shown}") from None


def _warn_of_likely_slip(variable: str) -> None:
    """DETECTOR_HTTP_PORT, where DETECTOR_HTTP__PORT is an option."""
    for section, options in sections().items():
        for field in options.fields:
            if variable == f"{_ENVIRONMENT_PREFIX}{section}_{field.encode_name}".upper():
                right = f"{_ENVIRONMENT_PREFIX}{section}__{field.encode_name}".upper()
                _LOGGER.warning("%s is no option; %s is one", variable, right)


def parse_config(tree: Any) -> Config:
    """A Config from what YAML gave. Raises ConfigError naming the key."""
    tree = _as_named_now(tree)
    try:
        config = msgspec.convert(tree, Config, dec_hook=decode_secret)
    except (msgspec.ValidationError, RecursionError) as error:
        raise explain(tree, error) from None
    check_together(config)
    return config


def with_model(config: Config, changes: Mapping[str, str]) -> Config:
    """The same with other options of the section model, each read as YAML; a list by comma
    (units: "64,32"). An option that the named kind does not know and that is not named too falls
    back to its default. Raises ConfigError naming the key."""
    tree = plain(config)
    for name, kinds in OPTIONS_OF_KINDS.items():
        if "kind" in changes and name not in changes and changes["kind"] not in kinds:
            tree["model"][name] = getattr(ModelConfig(), name)
    for name, text in changes.items():
        try:
            items = [read_yaml(part) for part in text.split(",")]
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"model.{name}: cannot read {text!r:.60}") from None
        is_list = isinstance(getattr(ModelConfig(), name, None), tuple)
        tree["model"][name] = items if is_list or len(items) > 1 else items[0]
    return parse_config(tree)


def _as_named_now(tree: Any) -> Any:
    """A copy with empty sections as sections, and options under the names they have now."""
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        return tree
    tree = {k: {} if v is None and k in sections() else v for k, v in tree.items()}
    for (section, old), new in RENAMED.items():
        options = tree.get(section)
        if isinstance(options, dict) and old in options:
            if new in options:
                raise ConfigError(f"{section}.{old}: is called {section}.{new} now: give one")
            _LOGGER.info("%s.%s is called %s.%s now; both are read", section, old, section, new)
            tree[section] = {new if k == old else k: v for k, v in options.items()}
    return tree


def _is_text(path: list[str]) -> bool:
    """Whether the option takes any text."""
    of = option(path)
    return isinstance(of, inspect.StrType) or (of is not None and is_secret(of))
