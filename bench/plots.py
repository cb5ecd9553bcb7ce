"""Plots as small SVGs, the same bytes for the same figures."""

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams.update(
    {
        "svg.hashsalt": "lictor", "svg.fonttype": "none", "font.family": "sans-serif",
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "path.simplify": True,
    }
)  # fmt: skip

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator  # noqa: E402

_COLOURS = ("#1f6feb", "#c2410c", "#15803d", "#7c3aed", "#64748b", "#b45309")


def write(figure, path):
    """Write a figure without a date, and close it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # matplotlib ends lines with blanks.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _logarithmic(axis, ticks=None):
    """Label 1, 2, 5, 10 and so on, or these ticks, as people write numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if ticks:
        axis.set_ticks(ticks, [f"{tick:,g}" for tick in ticks])


def _label(name):
    """The short part of a row's name."""
    return name.partition(":")[0].replace("`", "")


def bars(path, rows, *, unit, title, log=True):
    """Medians with their intervals, the fastest on top."""
    rows = sorted(rows, key=lambda row: row["value"], reverse=True)
    figure, axes = plt.subplots(figsize=(7.2, 0.27 * len(rows) + 0.9), layout="constrained")
    for n, row in enumerate(rows):
        ours = row["name"].startswith("lictor")
        axes.barh(n, row["value"], color=_COLOURS[0 if ours else 4], height=0.7)
        axes.plot([row["low"], row["high"]], [n, n], color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [_label(row["name"]) for row in rows])
    if log:
        axes.set_xscale("log")
        _logarithmic(axes.xaxis)
        axes.xaxis.set_major_locator(LogLocator(numticks=12))
    axes.set_xlabel(unit)
    axes.set_title(title, fontsize=9, loc="left")
    write(figure, path)


def lines(path, series, *, x, y, title, joined=True, level=None):
    """Points on two logarithmic scales.

    Args:
        path: where the SVG goes.
        series: name to a list of pairs.
        x: the label of the horizontal axis.
        y: that of the vertical one.
        title: stands above it.
        joined: whether there are lines between the points.
        level: a value to draw a line at.
    """
    figure, axes = plt.subplots(figsize=(5.4, 3.0), layout="constrained")
    for n, (name, points) in enumerate(series.items()):
        axes.plot(
            [one for one, _ in sorted(points)], [two for _, two in sorted(points)],
            marker="o", markersize=3.5, linewidth=1.2, linestyle="-" if joined else "none",
            label=_label(name), color=_COLOURS[n % len(_COLOURS)],
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    sizes = sorted({one for points in series.values() for one, _ in points})
    _logarithmic(axes.xaxis, sizes if len(sizes) <= 5 else None)
    _logarithmic(axes.yaxis)
    if level is not None:
        axes.axhline(level, color="black", linewidth=0.7, linestyle=":")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9, loc="left")
    axes.legend(frameon=False, fontsize=8)
    write(figure, path)
