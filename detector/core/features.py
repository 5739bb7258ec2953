"""Raw fields to feature columns, by small expressions such as `log_return(mid(bid, ask))`.

An expression is a field, or a function of fields, with at most one function that looks at
the previous tick of the series:

    per tick           value(x)  mid(a, b)  spread(a, b) = b - a  ratio(a, b)
                       abs(x)  log(x)  sqrt(x)  signed_log(x) = sign(x) ln(1 + |x|)
    previous tick      diff(x)  log_return(x) = diff(log(x))  interarrival() in seconds
    around those       abs  signed_log (they are finite for every finite input)

A field whose name is no identifier is quoted: value("cpu.user"). Everything is computed in
float64 and becomes float32 only as a finished feature: the difference of two prices keeps
its digits.
"""

from __future__ import annotations

import ast
import keyword
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from detector.core.ticks import Bool, Float32, Float64, Int64
from detector.errors import ConfigError


def _signed_log(x: Float64) -> Float64:
    result: Float64 = np.sign(x) * np.log1p(np.abs(x))
    return result


_PER_TICK: dict[str, tuple[int, Callable[..., Float64]]] = {
    "value": (1, lambda x: x),
    "mid": (2, lambda a, b: (a + b) / 2),
    "spread": (2, lambda a, b: b - a),
    "ratio": (2, lambda a, b: a / b),
    "abs": (1, np.abs),
    "log": (1, np.log),
    "sqrt": (1, np.sqrt),
    "signed_log": (1, _signed_log),
}
_PREVIOUS = ("diff", "log_return", "interarrival")
_AROUND = ("abs", "signed_log")
_QUOTES = "; a field whose name is no plain word stands in quotes: value('CPU load')"
#: A feature is no larger: room for the scaler to subtract a centre.
_LIMIT = np.finfo(np.float32).max / 4
FUNCTIONS = tuple(sorted((*_PER_TICK, *_PREVIOUS)))


@dataclass(frozen=True, slots=True)
class _Feature:
    operand: int  # index of the per-tick column; unused by interarrival
    kind: Literal["level", "difference", "interarrival"]
    around: tuple[str, ...]  # innermost first


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features of a model: names in order, their expressions, the raw fields they need."""

    names: tuple[str, ...]
    expressions: tuple[str, ...]
    fields: tuple[str, ...]
    _operands: tuple[ast.expr, ...]
    _features: tuple[_Feature, ...]
    _fields_alone: bool  # the operands are the fields as they are
    _operands_alone: bool  # the features are the operands as they are

    @classmethod
    def parse(cls, expressions: Mapping[str, str]) -> FeatureSet:
        """Read {feature name: expression}. Raises ConfigError naming the feature."""
        if not expressions:
            raise ConfigError("features: at least one feature is needed")
        fields: dict[str, None] = {}
        operands: dict[str, ast.expr] = {}
        features = []
        for name, text in expressions.items():
            try:
                tree = ast.parse(text, mode="eval").body
                features.append(_compile(tree, f"features.{name}", operands, fields))
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                raise ConfigError(
                    f"features.{name}: cannot read the expression {text[:200]!r}{_QUOTES}"
                ) from None
        levels = tuple(_Feature(i, "level", ()) for i in range(len(operands)))
        return cls(
            tuple(expressions),
            tuple(expressions.values()),
            tuple(fields),
            tuple(operands.values()),
            tuple(features),
            [_field(tree) for tree in operands.values()] == list(fields),
            tuple(features) == levels,
        )

    @classmethod
    def of_fields(cls, fields: Sequence[str]) -> FeatureSet:
        """Each field as its own feature, as it is (`features: auto`)."""
        return cls.parse({f: _reference(f) for f in fields})

    @property
    def needs_previous(self) -> bool:
        """Whether a tick without a predecessor has no features."""
        return any(f.kind != "level" for f in self._features)

    def operands(self, values: Float64) -> Float64:
        """The per-tick columns. values: (n, fields) -> (n, operands), the same array where they are
        the fields; may hold NaN and inf."""
        if self._fields_alone:
            return values
        columns = {f: values[:, i] for i, f in enumerate(self.fields)}
        result = np.empty((len(values), len(self._operands)))
        with np.errstate(all="ignore"):  # what is not finite is rejected by the caller
            for i, tree in enumerate(self._operands):
                result[:, i] = _evaluate(tree, columns)
        return result

    def compute(
        self,
        operands: Float64,
        previous: Float64,
        time_ns: Int64,
        previous_ns: Int64,
        has_previous: Bool,
    ) -> Float32:
        """Feature rows (n, features). operands, previous: (n, operands) of each tick and of the
        tick before it in its series. Rows without a previous tick are NaN where a feature
        needs one."""
        limit = _LIMIT
        if self._operands_alone:
            return operands.clip(-limit, limit).astype(np.float32)
        result = np.empty((len(operands), len(self._features)), np.float32)
        with np.errstate(all="ignore"):
            for i, feature in enumerate(self._features):
                if feature.kind == "interarrival":
                    # Of any two times, the later after the earlier: unsigned they never wrap.
                    apart_ns = time_ns.view(np.uint64) - previous_ns.view(np.uint64)
                    column = apart_ns * 1e-9
                elif feature.kind == "difference":
                    column = operands[:, feature.operand] - previous[:, feature.operand]
                else:
                    column = operands[:, feature.operand]
                if feature.kind != "level":
                    column = np.where(has_previous, column, np.nan)
                for function in feature.around:
                    column = _PER_TICK[function][1](column)
                result[:, i] = np.clip(column, -limit, limit)
        return result


def _reference(field: str) -> str:
    # Python reads identifiers in normal form NFKC: another spelling must be quoted.
    normal = unicodedata.normalize("NFKC", field) == field
    plain = normal and field.isidentifier() and not keyword.iskeyword(field)
    return field if plain else f"value({field!r})"


def _compile(
    tree: ast.expr, where: str, operands: dict[str, ast.expr], fields: dict[str, None]
) -> _Feature:
    around: list[str] = []
    while (
        isinstance(tree, ast.Call)
        and _called(tree, where) in _AROUND
        and len(tree.args) == 1
        and _looks_back(tree.args[0])
    ):
        around.insert(0, _called(tree, where))
        tree = tree.args[0]
    kind: Literal["level", "difference", "interarrival"] = "level"
    if isinstance(tree, ast.Call) and _called(tree, where) in _PREVIOUS:
        function = _called(tree, where)
        wanted = 0 if function == "interarrival" else 1
        if len(tree.args) != wanted:
            raise ConfigError(f"{where}: {function} takes {wanted} argument(s)")
        if function == "interarrival":
            return _Feature(-1, "interarrival", tuple(around))
        kind = "difference"
        inner = tree.args[0]
        if function == "log_return":
            inner = ast.Call(ast.Name("log"), [inner], [])
        tree = inner
    _check(tree, where, fields)
    key = ast.dump(tree)
    operands.setdefault(key, tree)
    return _Feature(list(operands).index(key), kind, tuple(around))


def _field(tree: ast.expr) -> str | None:
    """The field that this is, as it is."""
    while (
        isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and tree.func.id == "value"
    ):
        (tree,) = tree.args
    if isinstance(tree, ast.Name):
        return tree.id
    return str(tree.value) if isinstance(tree, ast.Constant) else None


def _called(call: ast.Call, where: str) -> str:
    if not isinstance(call.func, ast.Name) or call.keywords:
        raise ConfigError(f"{where}: only calls like mid(bid, ask) are understood")
    return call.func.id


def _looks_back(tree: ast.expr) -> bool:
    return any(
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _PREVIOUS
        for node in ast.walk(tree)
    )


def _check(tree: ast.expr, where: str, fields: dict[str, None]) -> None:
    if isinstance(tree, ast.Name):
        fields.setdefault(tree.id)
    elif isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        fields.setdefault(tree.value)
    elif isinstance(tree, ast.Call):
        function = _called(tree, where)
        if function in _PREVIOUS:
            raise ConfigError(
                f"{where}: {function} can stand once, and only abs or signed_log around it"
            )
        if function not in _PER_TICK:
            raise ConfigError(
                f"{where}: unknown function {function!r}; known are {', '.join(FUNCTIONS)}"
            )
        arity = _PER_TICK[function][0]
        if len(tree.args) != arity:
            raise ConfigError(f"{where}: {function} takes {arity} argument(s)")
        for argument in tree.args:
            _check(argument, where, fields)
    else:
        raise ConfigError(f"{where}: only fields and functions of fields are understood{_QUOTES}")


def _evaluate(tree: ast.expr, columns: Mapping[str, Float64]) -> Float64:
    if isinstance(tree, ast.Name):
        return columns[tree.id]
    if isinstance(tree, ast.Constant):
        return columns[str(tree.value)]
    assert isinstance(tree, ast.Call)
    assert isinstance(tree.func, ast.Name)
    return _PER_TICK[tree.func.id][1](*(_evaluate(a, columns) for a in tree.args))
