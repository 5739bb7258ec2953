"""What may stand where in a configuration, as msgspec tells of the schema."""

from __future__ import annotations

from functools import cache

from msgspec import inspect

from detector.config.schema import Config
from detector.config.secret import Secret


@cache
def schema() -> inspect.StructType:
    of = inspect.type_info(Config)
    assert isinstance(of, inspect.StructType)
    return of


@cache
def sections() -> dict[str, inspect.StructType]:
    """Those of Config by name."""
    return {
        field.encode_name: field.type
        for field in schema().fields
        if isinstance(field.type, inspect.StructType)
    }


def option(path: list[str]) -> inspect.Type | None:
    """What may stand there, without null beside it; None where nothing may."""
    of: inspect.Type | None = schema()
    for step in path:
        known = {f.name: f.type for f in of.fields} if isinstance(of, inspect.StructType) else {}
        of = bare(known[step]) if step in known else None
    return of


def bare(of: inspect.Type) -> inspect.Type:
    """Without description, and without null beside it."""
    if isinstance(of, inspect.Metadata):
        return bare(of.type)
    if isinstance(of, inspect.UnionType):
        rest = [t for t in map(bare, of.types) if not isinstance(t, inspect.NoneType)]
        return rest[0] if len(rest) == 1 else inspect.UnionType(tuple(rest))
    return of


def is_secret(of: inspect.Type) -> bool:
    """Whether what stands there is shown to nobody."""
    of = bare(of)
    return isinstance(of, inspect.CustomType) and of.cls is Secret
