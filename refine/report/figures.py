"""The drawings of the report, as inline SVG; and shoeboxes as small PNGs, one pixel a pixel."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from refine.records.outcome import Correlation, Goodness, Iteration
from refine.report.residuals import Residuals

Array = NDArray[np.float64]

INK, FAINT, GRID = "#1f2a37", "#8a94a3", "#e3e7ed"
FAST, SLOW, LOSS = "#1769aa", "#c2410c", "#4b5563"
USED, HELDOUT = "#1769aa", "#c026d3"
Z_LIMIT = 5.0


def style() -> AbstractContextManager[None]:
    settings: dict[Any, Any] = {  # matplotlib lists 300 literal keys, which mypy would have us repeat
        "font.family": ["DejaVu Sans"],
        "font.size": 9,
        "svg.fonttype": "none",  # text stays text: small, sharp, and the browser's own font
        "svg.hashsalt": "nbtorch",  # the same figure is the same file
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "text.color": INK,
        "legend.frameon": False,
    }
    return rc_context(settings)


def svg(figure: Figure) -> str:
    """``figure`` as an <svg> element that scales with its place."""
    stream = io.StringIO()
    with style():
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"font: ([\d.]+)px 'DejaVu Sans'[^;\"]*", r"font: \1px system-ui, sans-serif", text)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )


def convergence(history: Sequence[Iteration]) -> str | None:
    """Loss above its minimum and spot rms against the iteration; stages are shaded."""
    if not history:
        return None
    with style():
        figure = Figure((11.6, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes in (left, right):
            _shade_stages(axes, history)
            axes.set_xlabel("iteration")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        for stage, steps in _stages(history):
            losses = np.array([step.loss for step in steps])
            x = [step.iteration for step in steps]
            left.plot(x, losses, "o-", color=LOSS, markersize=3, linewidth=1.4)
            for name, color in (("rms_fast_px", FAST), ("rms_slow_px", SLOW)):
                points = [(step.iteration, getattr(step, name)) for step in steps if getattr(step, name) is not None]
                label = name[4:8] if stage == history[0].stage else None
                if points:
                    iterations, values = zip(*points, strict=True)
                    right.plot(iterations, values, "o-", color=color, markersize=3, linewidth=1.4, label=label)
        left.set_yscale("log")
        right.set_yscale("log")
        left.set_title("loss (each stage has its own)", pad=18)
        right.set_title("spot rms, pixels", pad=18)
        for which in (right.yaxis.set_major_formatter, right.yaxis.set_minor_formatter):
            which(FuncFormatter(_plain_tick))
        if right.get_legend_handles_labels()[0]:
            right.legend(loc="upper right")
        return svg(figure)


def _plain_tick(value: float, position: int | None) -> str:
    """0.5 rather than 5 × 10⁻¹, and only at 1, 2 and 5 of a decade."""
    return f"{value:g}" if f"{value:e}"[0] in "125" and f"{value:e}"[2] == "0" else ""


def _stages(history: Sequence[Iteration]) -> list[tuple[str, list[Iteration]]]:
    """Runs of iterations of one stage."""
    runs: list[tuple[str, list[Iteration]]] = []
    for step in history:
        if not runs or runs[-1][0] != step.stage:
            runs.append((step.stage, []))
        runs[-1][1].append(step)
    return runs


def _shade_stages(axes: Axes, history: Sequence[Iteration]) -> None:
    for number, (stage, steps) in enumerate(_stages(history)):
        first, last = steps[0].iteration - 0.5, steps[-1].iteration + 0.5
        axes.axvspan(first, last, color=GRID, alpha=0.55 if number % 2 == 0 else 0.15, linewidth=0)
        place = axes.get_xaxis_transform()
        axes.text((first + last) / 2, 1.01, stage, transform=place, ha="center", va="bottom", color=FAINT, fontsize=8)


def correlation(table: Correlation) -> str:
    """The correlation matrix of the free parameters as a heat map."""
    n = len(table.names)
    side = min(10.0, max(3.6, 0.24 * n + 2.4))
    with style():
        figure = Figure((side + 0.6, side), layout="constrained")
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(table.matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        size = float(np.clip(320 / n, 4, 8.5))
        axes.set_xticks(range(n), table.names, rotation=90, fontsize=size)
        axes.set_yticks(range(n), table.names, fontsize=size)
        figure.colorbar(image, ax=axes, shrink=0.6, label="correlation")
        return svg(figure)


def z_histogram(goodness: Goodness) -> str | None:
    """The distribution of z over pixels beside the unit normal that counting noise alone would give."""
    edges, counts = np.array(goodness.edges_z), np.array(goodness.histogram_z)
    if counts.sum() == 0 or len(edges) != len(counts) + 1:
        return None
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    expected = np.exp(-(centres**2) / 2) / np.sqrt(2 * np.pi)
    with style():
        figure = Figure((6.0, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.bar(centres, counts / counts.sum() / widths, widths, color=FAST, alpha=0.55, linewidth=0, label="pixels")
        axes.plot(centres, expected, color=SLOW, linewidth=1.4, label="noise alone")
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(1e-6, 0.3 / (counts.sum() * widths.mean())))
        axes.set_xlabel("z = (observed − model) / σ")
        axes.set_title(
            "residuals of all pixels" if goodness.sigma_z is None else f"residuals: σ(z) = {goodness.sigma_z:.2f}"
        )
        axes.legend(loc="upper left", fontsize=8)
        return svg(figure)


def against_resolution(found: Residuals) -> str | None:
    """Radial and tangential residuals against 1/d²."""
    if len(found.d) == 0:
        return None
    x = 1 / found.d**2
    with style():
        figure = Figure((6.0, 3.9), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.plot(x, found.radial, "o", color=FAST, markersize=3, alpha=0.7, label="radial", markeredgewidth=0)
        axes.plot(x, found.tangential, "o", color=SLOW, markersize=3, alpha=0.7, label="tangential", markeredgewidth=0)
        ticks = np.linspace(x.min(), x.max(), 5) if x.max() > x.min() else x[:1]
        axes.set_xticks(ticks, [f"{1 / np.sqrt(tick):.2f}" for tick in ticks])
        axes.set_xlabel("resolution, Å")
        axes.set_ylabel("pixels")
        axes.set_title("spot residuals against resolution")
        axes.legend(fontsize=8, ncols=2, loc="upper center")
        return svg(figure)


def shoebox_png(values: Array, cmap: str, low: float, high: float) -> str:
    """A data URI of ``values`` [slow, fast] coloured from ``low`` to ``high``; NaN is grey."""
    colours = colormaps[cmap].with_extremes(bad="#c9ced6")
    scaled = np.ma.masked_invalid((values - low) / max(high - low, 1e-12))
    stream = io.BytesIO()
    imsave(stream, colours(np.clip(scaled, 0, 1)), format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
