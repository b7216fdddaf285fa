"""The gate report as files: `gate.json`, a table in Markdown, three plots, and a page."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from actfer_env.evaluation.gate.figures import COSTS, GATES, gate_figures
from actfer_env.evaluation.gate.outcomes import SWAPS, Plays
from actfer_env.evaluation.run import REPORT_FILE, RUN_FILE
from actfer_env.evaluation.tables import DASH
from actfer_env.files import write_bytes_atomic, write_text_atomic

GATE_FILE, TABLE_FILE, PAGE_FILE = "gate.json", "gate.md", "gate.html"
PLOTS = ("regret", "uplift", "reliability")
LOST = 0.1
"""Share of episodes without an answer above which the report says so (chosen here)."""
GATE_NAMES: Mapping[str, str] = {
    "policy": "the policy", "never": "never", "always": "always", "all": "all regions", "random": "random, same rate",
    "privileged": "quality label (privileged)", "focus": "focus", "size": "picture size", "oracle": "oracle",
}  # fmt: skip
"""Gates as tables call them."""
TERMS: Mapping[str, str] = {
    "call_gain": "call gain", "schema_gain": "schema gain", "call_harm": "call harm", "schema_harm": "schema harm",
}  # fmt: skip
SWAP_NAMES: Mapping[str, str] = {
    "blurred": "blurred crops", "person": "another person’s crops", "region": "crops of another region",
}  # fmt: skip
Table = tuple[str, Sequence[str], Sequence[Sequence[str]], str]
"""Title, head, rows, and a note under it."""


def write_gate(
    folder: str | os.PathLike[str], plays: Plays, measure: str = "accuracy"
) -> tuple[dict[str, Any], Path | None]:
    """Write a gate report into a run's folder.

    Args:
        folder: The folder.
        plays: The passes.
        measure: Worth of an episode: "accuracy", or "task", the task reward.

    Returns:
        The figures, as `gate.json` has them, and the page's path; None where matplotlib is missing, so that neither
        page nor plots could be written.

    Raises:
        DataError: no sample counts, or the folder cannot be written.
    """
    from actfer_env.evaluation.gate.plots import draw_plots

    place, figures = Path(folder), gate_figures(plays, measure)
    tables = gate_tables(figures)
    write_text_atomic(place / GATE_FILE, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text_atomic(place / TABLE_FILE, markdown(figures, tables))
    try:
        plots = draw_plots(figures)
    except ImportError:
        return figures, None
    for name, content in plots.items():
        write_bytes_atomic(place / f"gate-{name}.png", content)
    uris = {name: f"data:image/png;base64,{base64.b64encode(content).decode()}" for name, content in plots.items()}
    write_text_atomic(place / PAGE_FILE, _page(figures, tables, uris, (place / RUN_FILE).is_file()))
    return figures, place / PAGE_FILE


def title_of(figures: Mapping[str, Any]) -> str:
    """Return the report's title."""
    names = [Path(name).name if "/" in name else name for name in figures["agents"]]
    who = names[0] if len(names) == 1 else f"{len(names)} seeds"
    return f"Gate report: {who} on {figures['dataset'].get('name', 'data')}"


def sentence(figures: Mapping[str, Any]) -> list[str]:
    """Return the findings in words, one line each."""
    lines, qini, regret = [], figures["qini"], figures["regret"]["0"]
    ratio = figures["zoom_ratio"]
    collapsed, seeds = figures["stability"]["collapsed"], figures["stability"]["seeds"]
    lines.append(f"It zooms in {_share(ratio)} of the episodes with a face"
                 + (f"; {collapsed} of {seeds} gates have collapsed." if seeds > 1 else
                    "; the gate has collapsed: it does not choose." if collapsed else "."))  # fmt: skip
    lost = {way: share for way, share in (figures.get("unanswered") or {}).items() if share > LOST}
    if lost:
        told = ", ".join(f"{_share(share)} in the pass {way}" for way, share in lost.items())
        lines.append(f"Many episodes end without an answer ({told}): a policy that does not follow a pass's "
                     "instructions shows little by it.")  # fmt: skip
    if regret["value"] is not None:
        lines.append(f"Of what choosing could gain over the better of never and always it misses {text(regret, 2)} (0: "
                     "nothing, 1: all, above 1: a fixed gate does better).")  # fmt: skip
    if qini["value"] is not None:
        word = "better than random" if (qini["low"] or 0) > 0 else "not told from random"
        lines.append(f"When to zoom: its order is {word} (Qini {text(qini, 2)}; 0 is random, 1 the best order).")
    evidence = figures.get("evidence")
    if evidence is not None and evidence.get("looks") is not None:
        lines.append("Its answers follow what the crops show." if evidence["looks"] else
                     "Its answers do not move when the crops are swapped: it does not look at them.")  # fmt: skip
    if not figures["looks"]:
        lines.append("A script played: no policy looked at a picture.")
    return lines


def overview(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return each gate with its worth and regret where a zoom costs nothing, for a terminal."""
    worth = figures["reference_gates"]["0"]
    regrets = {"policy": figures["regret"]["0"].get("value"), **(figures["regret"]["0"].get("gates") or {})}
    return [
        (GATE_NAMES[gate], text(worth[gate]), DASH if regrets.get(gate) is None else f"{regrets[gate]:.2f}")
        for gate in ("policy", *GATES) if gate in worth
    ]  # fmt: skip


def gate_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Return the report's tables."""
    return [
        _gates(figures), _regrets(figures), _order(figures), _gains(figures), *_evidence(figures), *_where(figures),
        *_seeds(figures),
    ]  # fmt: skip


def _gates(figures: Mapping[str, Any]) -> Table:
    costs = [f"{cost:g}" for cost in COSTS]
    found = figures["reference_gates"]
    rows = [
        [GATE_NAMES[gate], *(text(found[cost].get(gate)) for cost in costs)]
        for gate in ("policy", *GATES) if gate in found["0"]
    ]  # fmt: skip
    rows += [
        [
            f"the policy less {GATE_NAMES[gate]}",
            *(text(found[cost][f"policy_less_{gate}"], sign=True) for cost in costs),
        ]
        for gate in ("never", "always")
    ]
    what = "accuracy" if figures["quality"] == "accuracy" else "task reward"
    head = ["gate", *(f"a zoom costs {cost}" for cost in costs)]
    return (f"Worth of each gate: {what}, less the zoom’s cost", head, rows,
            "All gates choose between the policy’s own episodes, with the same weights. Thresholds of focus and size "
            "are chosen on one half of the samples and scored on the other.")  # fmt: skip


def _regrets(figures: Mapping[str, Any]) -> Table:
    regrets = figures["regret"]
    rows = [[GATE_NAMES["policy"], *(text(regrets[f"{cost:g}"], 2) for cost in COSTS)]]
    for gate in GATES:
        cells = [(regrets[f"{cost:g}"].get("gates") or {}).get(gate) for cost in COSTS]
        if any(cell is not None for cell in cells):
            rows.append([GATE_NAMES[gate], *(DASH if cell is None else f"{cell:.2f}" for cell in cells)])
    return ("Normalised regret", ["gate", *(f"{cost:g}" for cost in COSTS)], rows,
            "(oracle - gate) / (oracle - max(never, always)): 0 is the oracle, 1 the better fixed gate.")  # fmt: skip


def _order(figures: Mapping[str, Any]) -> Table:
    calibration, qini = figures["calibration"], figures["qini"]
    rows = [["Qini (0 random, 1 best order)", text(qini, 2)],
            ["rank correlation of chance to zoom and gain", text(calibration["rank_correlation"], 2)]]  # fmt: skip
    rows += [
        [f"gain where the chance is about {one['chance']:.2f} ({one['n']})", text(one["uplift"], sign=True)]
        for one in calibration.get("bins", [])
    ]
    return ("When", ["", ""], rows, f"Ordered by {qini.get('ordered_by', 'the chance to zoom')}.")


def _gains(figures: Mapping[str, Any]) -> Table:
    found, rows = figures["gain_and_harm"], []
    for name, words in TERMS.items():
        one = found[name]
        rows.append([words, text(one), *(f"{one[part]:.3f}" for part in ("mass", "policy", "quality"))])
    return ("Gain and harm of offering the tool", ["term", "value", "mass", "policy", "quality"], rows,
            "Gains less harms are the accuracy with the tool on offer less that without it.")  # fmt: skip


def _evidence(figures: Mapping[str, Any]) -> list[Table]:
    found = figures.get("evidence")
    if found is None:
        return []
    rows = [
        [SWAP_NAMES[swap], text(found[swap]["fall"], sign=True), text(found[swap]["moved"])]
        for swap in SWAPS if swap in found
    ]  # fmt: skip
    anyhow = found.get("moved_anyhow")
    return [("Evidence", ["crops replaced by", "quality falls by", "answers that move"], rows,
             f"Of the pass that must zoom. Between two repeats with the same crops {_share(anyhow)} of the answers "
             "differ.")]  # fmt: skip


def _where(figures: Mapping[str, Any]) -> list[Table]:
    found, rows = figures["where"], list[Sequence[str]]()
    names = {"units": "carry one of the sample’s AUs", "uplift": "gain most"}
    for key, words in names.items():
        for way, budgets in (found.get(key) or {}).items():
            for budget, one in budgets.items():
                if one.get("looks") and one.get("share") is not None:
                    rows.append([f"{words}: {way}, first {budget}", _share(one["share"]), _share(one["chance"]),
                                 text(one["gain"], sign=True)])  # fmt: skip
    tables: list[Table] = []
    if rows:
        tables.append(("Where: looks at regions that …", ["", "share", "chance", "difference"], rows,
                       "“free”: looks of its own accord; “always”: where it must look."))  # fmt: skip
    first = found.get("first")
    if first:
        names = {"policy": "region of the policy’s choice", "fixed": "best fixed region", "random": "random region",
                 "best": "best region of each sample", "policy_less_random": "the policy less random",
                 "policy_less_fixed": "the policy less the fixed one"}  # fmt: skip
        tables.append(("One look alone", ["region", "worth"],
                       [[words, text(first[key], sign="less" in key)] for key, words in names.items()],
                       "The fixed region is chosen on one half of the samples and scored on the other."))  # fmt: skip
    return tables


def _seeds(figures: Mapping[str, Any]) -> list[Table]:
    seeds = figures.get("seeds")
    if not seeds:
        return []
    rows = [
        [str(number), _share(one["zoom_ratio"]), text(one["values"]["never"]), text(one["values"]["always"]),
         text(one["values"]["free"]), text(one["regret"]["0"], 2), text(one["qini"], 2)]
        for number, one in enumerate(seeds)
    ]  # fmt: skip
    return [("Seeds", ["seed", "zoomed", "never", "always", "the policy", "regret", "Qini"], rows,
             "Within a seed: percentile bootstrap over samples.")]  # fmt: skip


def text(figure: Mapping[str, Any] | None, digits: int = 3, sign: bool = False) -> str:
    """Return a figure with its interval, such as "0.512 [0.480, 0.544]"."""
    if figure is None or figure.get("value") is None:
        return DASH
    plus = "+" if sign else ""
    value = f"{figure['value']:{plus}.{digits}f}"
    if figure.get("low") is None or figure.get("high") is None:
        return value
    return f"{value} [{figure['low']:{plus}.{digits}f}, {figure['high']:{plus}.{digits}f}]"


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.1%}"


def markdown(figures: Mapping[str, Any], tables: Sequence[Table] | None = None) -> str:
    """Return the report's tables in Markdown."""
    parts = [f"# {title_of(figures)}", about(figures), "\n".join(f"- {line}" for line in sentence(figures))]
    for title, head, rows, note in gate_tables(figures) if tables is None else tables:
        lines = [" | ".join(head), " | ".join(["---"] * len(head)), *(" | ".join(row) for row in rows)]
        parts.append(f"## {title}\n\n" + "\n".join(f"| {line} |" for line in lines) + f"\n\n{note}")
    return "\n\n".join(parts) + "\n"


def about(figures: Mapping[str, Any]) -> str:
    """Return in one line what the figures are of, and what their intervals are."""
    each = figures.get("seeds") or [figures]
    n, faces, repeats = (sorted({one[name] for one in each}) for name in ("n", "with_face", "repeats"))
    seeds = f"{len(each)} seeds; " if len(each) > 1 else ""
    again = f", {_span(repeats)} repeats each" if repeats != [1] else ""
    return f"{seeds}{_span(n)} samples, {_span(faces)} with a face{again}. Intervals: {figures['intervals']}."


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _page(figures: Mapping[str, Any], tables: Sequence[Table], plots: Mapping[str, str], episodes: bool) -> str:
    """Return the page; with `episodes` it links to the run's report beside it, which several runs do not have."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("actfer_env.evaluation"), autoescape=True, undefined=StrictUndefined)
    captions = {"regret": "Regret by the cost of a zoom", "uplift": "What zooming at a rate gains",
                "reliability": "Observed gain by the chance to zoom"}  # fmt: skip
    style = (Path(__file__).parent.parent / "templates" / "report.css").read_text(encoding="utf-8")
    return environment.get_template("gate.html.j2").render(
        title=title_of(figures), about=about(figures), findings=sentence(figures), tables=tables, style=style,
        plots=[(captions[name], plots[name]) for name in PLOTS], version=figures["actfer_env"],
        episodes=REPORT_FILE if episodes else "",
    )  # fmt: skip
