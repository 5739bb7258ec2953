"""A tensor of a graph over n windows, as one window sees it."""

from __future__ import annotations

from dataclasses import dataclass

from detector.core.graphs import Shape
from detector.engines.place import Place


class UnknownGraphError(ValueError):
    """A graph that the native engine cannot run, and why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """place: of one window's numbers; axis: where that of n stands in the graph's shape; company:
    a window of zeros was added behind the others."""

    place: Place
    axis: int
    company: bool = False

    @property
    def shape(self) -> Shape:
        whole: list[int | str] = list(self.place.shape)
        whole.insert(self.axis, "n")
        return tuple(whole)

    def own(self, axis: int) -> int:
        """An axis of the graph's shape among those of one window."""
        axis %= len(self.place.shape) + 1
        if axis == self.axis:
            raise UnknownGraphError("an operation along the windows")
        return axis - (axis > self.axis)

    def with_place(self, place: Place) -> Tensor:
        return Tensor(place, self.axis, self.company)
