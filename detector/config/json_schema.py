"""The JSON Schema of config.yaml (draft 2020-12), for editors and other programs."""

from __future__ import annotations

from typing import Any

import msgspec

from detector.config.schema import RENAMED, Config
from detector.config.secret import schema_of_secret
from detector.config.types import sections

_ID = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """What it cannot say, that options fit together, `detector check` says."""
    of = msgspec.json.schema(Config, schema_hook=schema_of_secret)
    whole = msgspec.json.decode(msgspec.json.encode(of))
    definitions = whole["$defs"]
    top = definitions.pop("Config")
    for (section, old), new in RENAMED.items():
        options = definitions[sections()[section].cls.__name__]["properties"]
        note = f"is called {new} now; goes on working"
        options[old] = options[new] | {"description": note, "deprecated": True}
    for name in sections():  # an empty section is all defaults
        top["properties"][name] = {"anyOf": [top["properties"][name], {"type": "null"}]}
    return {"$schema": _ID, **top, "title": "config.yaml of detector", "$defs": definitions}
