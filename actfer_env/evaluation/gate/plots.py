"""The three plots of the gate report."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actfer_env.evaluation.gate.figures import COSTS, GATES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"policy": "#b3261e", "oracle": "#1b6e3c", "never": "#6b6b6b", "always": "#222222", "random": "#8a6d00",
            "privileged": "#2457a6", "focus": "#7a3fa0", "size": "#0e7c86", "all": "#a0522d"}  # fmt: skip
_STYLES = {"never": ":", "always": "--", "random": "-.", "all": (0, (1, 3))}


def draw_plots(figures: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the plots as PNG: "regret" by cost, the "uplift" curve, and "reliability", gain by chance to zoom.

    Args:
        figures: Contents of `gate.json`.

    Raises:
        ImportError: matplotlib is missing.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = {}
    for name, draw in (("regret", _regret), ("uplift", _uplift), ("reliability", _reliability)):
        figure = Figure(figsize=(6.0, 4.2), dpi=130, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes, figures)
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
        found[name] = content.getvalue()
    return found


def _regret(axes: Axes, figures: Mapping[str, Any]) -> None:
    names = [f"{cost:g}" for cost in COSTS]
    for gate in GATES:
        points = [
            (cost, (figures["regret"][name].get("gates") or {}).get(gate))
            for cost, name in zip(COSTS, names, strict=True)
        ]
        points = [point for point in points if point[1] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), ls=_STYLES.get(gate, "-"), color=_COLOURS[gate], label=gate, lw=1.3)
    own = [(cost, figures["regret"][name]) for cost, name in zip(COSTS, names, strict=True)]
    own = [(cost, one) for cost, one in own if one["value"] is not None]
    if own:
        axes.plot([cost for cost, _ in own], [one["value"] for _, one in own], "o-", color=_COLOURS["policy"],
                  label="policy", lw=2.2)  # fmt: skip
        banded = [(cost, one["low"], one["high"]) for cost, one in own if one["low"] is not None]
        if banded:
            costs, low, high = zip(*banded, strict=True)
            axes.fill_between(costs, low, high, color=_COLOURS["policy"], alpha=0.12, lw=0)
        most = max(one["value"] for _, one in own)
        axes.set_ylim(min(-0.1, *(one["value"] for _, one in own)) - 0.1, max(2.0, min(1.3 * most, most + 2)))
    axes.set(xlabel="cost of a zoom", ylabel="normalised regret (0: oracle, 1: better fixed gate)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    else:
        axes.text(0.5, 0.5, "choosing gains nothing here", ha="center", transform=axes.transAxes)


def _each(figures: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(figures.get("seeds") or [figures])


def _uplift(axes: Axes, figures: Mapping[str, Any]) -> None:
    for number, one in enumerate(_each(figures)):
        curves, faint = one["qini"]["curves"], 0.9 if number == 0 else 0.35
        for name in ("policy", "oracle"):
            label = ("its own order" if name == "policy" else "best order") if number == 0 else None
            axes.plot(curves[name]["rate"], curves[name]["gain"], color=_COLOURS[name], alpha=faint, label=label)
        end = curves["policy"]["gain"][-1]
        axes.plot(
            [0, 1], [0, end], "-.", color=_COLOURS["random"], alpha=faint, label=None if number else "random order"
        )
        ratio = one["zoom_ratio"]
        if ratio is not None:
            axes.axvline(ratio, color=_COLOURS["policy"], ls=":", lw=1, alpha=faint,
                         label=None if number else "its zoom ratio")  # fmt: skip
    what = "accuracy" if figures["quality"] == "accuracy" else "task reward"
    axes.set(xlabel="share of the samples that are zoomed", ylabel=f"gain in {what} over never zooming")
    axes.legend(fontsize=8, frameon=False)


def _reliability(axes: Axes, figures: Mapping[str, Any]) -> None:
    for number, one in enumerate(_each(figures)):
        bins = [row for row in one["calibration"]["bins"] if row["uplift"]["value"] is not None]
        x, y = [row["chance"] for row in bins], [row["uplift"]["value"] for row in bins]
        ends = [[row["uplift"][end] for row in bins] for end in ("low", "high")]
        spread = [[0.0 if end is None else abs(v - end) for v, end in zip(y, side, strict=True)] for side in ends]
        axes.errorbar(
            x, y, yerr=spread, fmt="o-", color=_COLOURS["policy"], alpha=0.9 if number == 0 else 0.35, capsize=3
        )
    axes.axhline(0, color="#222222", lw=0.8)
    what = "accuracy" if figures["quality"] == "accuracy" else "task reward"
    axes.set(xlabel="the policy's chance to zoom", ylabel=f"observed gain in {what} by zooming", xlim=(-0.03, 1.03))
