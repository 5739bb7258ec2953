"""What is wrong with a configuration, in a line that names the key and what it may be.

msgspec finds the first value that does not fit; where it stands, what it is and what would fit are
put together here.
"""

from __future__ import annotations

import difflib
import re
from typing import Any

from msgspec import inspect

from detector.config.types import bare, is_secret, schema
from detector.errors import ConfigError

_PATH = re.compile(r" - at `(?:key` in `)?\$(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>.*?)`", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[A-Za-z_]\w*)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")


def explain(tree: Any, error: Exception) -> ConfigError:
    """Of the tree that gave a ValidationError."""
    if isinstance(error, RecursionError):
        return ConfigError("the file: is nested too deeply")
    text = str(error)
    found = _PATH.search(text)
    path = found["path"] if found else ""
    unknown = _UNKNOWN.match(text)
    where, value, of = _look_up(tree, path)
    if unknown is not None:
        return _unknown(where, unknown["name"], of)
    if isinstance(value, dict) and "`key` in" in text:
        name = next(key for key in value if not isinstance(key, str))
        if where == "features":
            return ConfigError(f"features.{name}: must be an expression like log_return(price)")
        return _unknown(where, str(name), of)
    missing = _MISSING.match(text)
    if missing is not None:
        return ConfigError(f"{where}.{missing['name']}: is missing".removeprefix("."))
    shown = "something else" if is_secret(of) else _shown(value)
    return ConfigError(f"{where or 'the file'}: must be {_wanted(where, of, value)}, is {shown}")


def _unknown(where: str, name: str, of: inspect.Type) -> ConfigError:
    known = [field.name for field in of.fields] if isinstance(of, inspect.StructType) else []
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return ConfigError(f"{where}.{name}: unknown option; {hint}".removeprefix("."))


def _look_up(tree: Any, path: str) -> tuple[str, Any, inspect.Type]:
    """(as people write it, the value there, what may stand there) of msgspec's path."""
    where = ""
    of: inspect.Type = schema()
    for step in _STEP.finditer(path):
        of = bare(of)
        if step["name"] is not None:
            tree, where = tree[step["name"]], f"{where}.{step['name']}".removeprefix(".")
            assert isinstance(of, inspect.StructType)
            of = next(field.type for field in of.fields if field.name == step["name"])
        elif step["index"] is not None:
            tree, where = tree[int(step["index"])], f"{where}[{step['index']}]"
            of = of.item_type if isinstance(of, inspect.VarTupleType) else of
        else:  # a value of a mapping: msgspec does not say which
            name = next(key for key, value in tree.items() if not isinstance(value, str))
            tree, where = tree[name], f"{where}.{name}"
            of = of.value_type if isinstance(of, inspect.DictType) else of
    return where, tree, of


def _wanted(where: str, of: inspect.Type, value: Any) -> str:
    of = bare(of)
    if isinstance(of, inspect.UnionType) and where != "features":
        return " or ".join(_wanted(where, one, value) for one in of.types)
    if where == "features":
        return '"auto" or {name: expression}'
    if where.startswith("features."):
        return "an expression like log_return(price)"
    if isinstance(of, inspect.LiteralType):
        values = ", ".join(map(str, of.values))
        return values if len(of.values) == 1 else f"one of {values}"
    if isinstance(of, inspect.StructType):
        return "a section of options"
    if isinstance(of, inspect.VarTupleType):
        return _list(of, value)
    if isinstance(of, inspect.IntType | inspect.FloatType):
        number = isinstance(value, int if isinstance(of, inspect.IntType) else int | float)
        if number and not isinstance(value, bool) and value == value:
            return _bounds(of.ge, of.le)
        return "a whole number" if isinstance(of, inspect.IntType) else "a number"
    return "true or false" if isinstance(of, inspect.BoolType) else "text"


def _list(of: inspect.VarTupleType, value: Any) -> str:
    if isinstance(value, list):
        least, most = of.min_length or 0, of.max_length
        return f"a list of {least} to {most}" if most is not None else f"a list of {least} or more"
    item = "[32, 16]" if isinstance(bare(of.item_type), inspect.IntType) else "[one, other]"
    return f"a list like {item}"


def _bounds(least: float | None, most: float | None) -> str:
    low = 0 if least is None else least
    return f"at least {low:g}" if most is None else f"from {low:g} to {most:g}"


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 5:
        return f"a list of {len(value)}"
    return "empty" if value is None else f"{value!r:.60}"
