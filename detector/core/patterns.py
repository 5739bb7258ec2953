"""Patterns of series' names, as shells have them: * any text, ? one character, [ab] one of these,
[!ab] none of these. Upper and lower case differ."""

from __future__ import annotations

import re
from fnmatch import translate

_LONGEST = 500


class Pattern:
    """Raises ValueError where the text is empty or too long."""

    def __init__(self, text: str) -> None:
        if not 0 < len(text) <= _LONGEST:
            raise ValueError(f"a pattern has 1 to {_LONGEST} characters")
        self.text = text
        self._form = re.compile(translate(text))

    def matches(self, name: str) -> bool:
        return self._form.match(name) is not None

    @property
    def matches_everything(self) -> bool:
        return "*" in self.text and not self.text.strip("*?")
