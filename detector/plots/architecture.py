"""The layers of a network, from left to right."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text

from detector.model.family import Architecture
from detector.plots.picture import COLORS, new_figure


def draw_architecture(architecture: Architecture, title: str) -> Figure:
    """Layers from left to right, each with the shape of what it gives for n windows."""
    columns = architecture_columns(architecture)
    rows = max(len(column) for column in columns)
    figure = new_figure(1.45 * len(columns) + 0.3, 0.9 * rows + 0.5)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(-0.5, rows - 0.5)
    before: list[tuple[float, Text]] = []
    for x, column in enumerate(columns):
        ys = [rows / 2 - 0.5] if len(column) == 1 else list(range(rows))[::-1]
        now = []
        for (name, shape, color), y in zip(column, ys, strict=True):
            box = {"boxstyle": "round,pad=0.45", "facecolor": f"{color}22", "edgecolor": color}
            text = axes.text(
                x, y, f"{name}\n{shape}", ha="center", va="center", fontsize=8, bbox=box
            )
            now.append((y, text))
        for y, text in now:
            for height, source in before:
                if len(now) == 1 or len(before) == 1 or y == height:
                    arrow = {"arrowstyle": "->", "color": "#777777"}
                    ends = {"patchA": source.get_bbox_patch(), "patchB": text.get_bbox_patch()}
                    axes.annotate("", (x, y), (x - 1, height), arrowprops=arrow | ends)
        before = now
    axes.set_title(title, fontsize=10)
    return figure


Box = tuple[str, str, str]  # what it is, the shape of its output, its color


def architecture_columns(architecture: Architecture) -> list[list[Box]]:
    """The boxes of the drawing; a column has one box, or one for each decoder."""
    one = architecture
    data, encoder, decoder = COLORS[7], COLORS[0], COLORS[2]
    columns: list[list[Box]] = [[("window", f"n x {one.length} x {one.features}", data)]]
    if not one.recurrent:
        flat = one.length * one.features
        columns.append([("flatten", f"n x {flat}", data)])
        columns += [[("dense", f"n x {width}", encoder)] for width in one.units]
        columns += [[("dense", f"n x {width}", decoder)] for width in one.decoder_units]
        columns.append([("dense", f"n x {flat}", decoder)])
        columns.append([("expected", f"n x {one.length} x {one.features}", data)])
        return columns
    if one.inputs < one.length:
        columns.append([("first ticks", f"n x {one.inputs} x {one.features}", data)])
    for i, width in enumerate(one.units):
        vector = i == len(one.units) - 1 and one.kind != "sequence"
        shape = f"n x {width}" if vector else f"n x {one.inputs} x {width}"
        columns.append([("LSTM", shape, encoder)])
    targets = one.targets
    if one.decoder_units and one.kind != "sequence":
        fed = " + tick before" if one.conditioned else ""
        columns.append(
            [(f"repeat{fed}", f"n x {t.steps} x {one.decoder_inputs}", decoder) for t in targets]
        )
    columns += [
        [("LSTM", f"n x {t.steps} x {width}", decoder) for t in targets]
        for width in one.decoder_units
    ]
    backwards = ", backwards" if one.target_order == "reversed" else ""
    columns.append(
        [(f"dense{backwards}", f"n x {t.steps} x {one.features}", decoder) for t in targets]
    )
    columns.append([(t.name, t.span, data) for t in targets])
    return columns
