"""A trained graph, as those who ask it see it: named arrays in, named arrays out.

Who runs it is the business of detector.engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

#: Of an input or output; a dimension of any size is a name.
Shape = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs a graph. why: it is not the one that was wanted first; empty where it is."""

    name: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.why}" if self.why else self.name


class Graph(Protocol):
    """One serialized graph that is ready to run. What it gives for a window depends on that
    window alone, to the last bit: never on its company in a call."""

    @property
    def engine(self) -> Engine: ...

    @property
    def batch(self) -> int:
        """Windows in one call that it does best with."""

    @property
    def inputs(self) -> Mapping[str, Shape]: ...

    @property
    def outputs(self) -> Mapping[str, Shape]: ...

    def run(
        self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[Any]]: ...
