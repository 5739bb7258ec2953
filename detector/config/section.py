"""What sections of options are made of."""

from __future__ import annotations

from msgspec import Meta, Struct


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options that belong together."""


def about(text: str) -> Meta:
    """What an option is for, as people are told."""
    return Meta(description=text)
