"""The loss of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, StrMethodFormatter

from detector.errors import DataError
from detector.plots.picture import COLORS, new_figure


def draw_training(manifest: Mapping[str, Any]) -> Figure:
    """Loss and held-out loss over the epochs; the best epoch, whose weights were kept."""
    history = manifest["training"]["history"]
    if not history:
        raise DataError("the model was not trained: it has no loss curves")
    epochs = np.arange(1, len(history) + 1)
    held_out = np.array([h["validation_loss"] for h in history])
    figure = new_figure(7, 4)
    axes = figure.add_subplot()
    loss = [h["loss"] for h in history]
    axes.plot(epochs, loss, label="training", marker=".", color=COLORS[0])
    axes.plot(epochs, held_out, label="held out", marker=".", color=COLORS[1])
    best = int(held_out.argmin())
    axes.axvline(epochs[best], color="#999999", linestyle=":", label=f"kept: epoch {best + 1}")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 5, 7)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter("")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean squared error, scaled features")
    model = manifest["model"]
    axes.set_title(f"{manifest['model_version']}: {model['kind']}, units {model['units']}")
    axes.legend()
    return figure
