"""Names of many ticks: each name once, and a number for every tick."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Names(Sequence[str]):
    """code: (n,) which of the distinct names each tick has. Some of these may have no tick."""

    distinct: Sequence[str]
    code: NDArray[np.int32]

    @classmethod
    def of(cls, names: Iterable[str]) -> Names:
        numbers: dict[str, int] = {}
        code = [numbers.setdefault(name, len(numbers)) for name in names]
        return cls(tuple(numbers), np.array(code, np.int32))

    @classmethod
    def concatenate(cls, parts: Sequence[Names]) -> Names:
        """One after the other; distinct names may stand there twice."""
        before = np.cumsum([0, *(len(part.distinct) for part in parts)])
        distinct = [name for part in parts for name in part.distinct]
        codes = [part.code + first for part, first in zip(parts, before[:-1], strict=True)]
        return cls(distinct, np.concatenate([np.empty(0, np.int32), *codes]).astype(np.int32))

    def at(self, rows: NDArray[np.int64]) -> Names:
        """Those of some ticks."""
        return Names(self.distinct, self.code[rows])

    def __len__(self) -> int:
        return len(self.code)

    def __iter__(self) -> Iterator[str]:
        return map(self.distinct.__getitem__, self.code.tolist())

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Names: ...
    def __getitem__(self, at: int | slice) -> str | Names:
        if isinstance(at, slice):
            return Names(self.distinct, self.code[at])
        name: str = self.distinct[self.code[at]]
        return name
