"""Tables of a benchmark in the layout of the papers: figures and published rows as titled rows of cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actfer_env import facs
from actfer_env.evaluation.benchmarks.published import FERBENCH_COLUMNS, TAG_COLUMNS
from actfer_env.evaluation.table_files import PUBLISHED, Table, TableRow
from actfer_env.evaluation.tables import DASH


def benchmark_tables(figures: Mapping[str, Any]) -> list[Table]:
    """Return the tables of `benchmark_figures`; the main one, with the published rows, is the first."""
    main = {"ferbench": _ferbench, "disfa": _disfa, "tag": _tag, "fea20k": _fea20k}[figures["benchmark"]]
    tables = [*main(figures), _items(figures)]
    if figures["pooled"]["emotions"]:
        tables += [_by_emotion(figures), *_confusions(figures)]
    if figures["pooled"]["terms"]:
        tables.append(_terms(figures))
    return tables


def _ferbench(figures: Mapping[str, Any]) -> list[Table]:
    pooled, parts = figures["pooled"], figures["parts"]
    rows = []
    for name, key in (("strict", "strict"), ("FERBench’s scorer", "ferbench")):
        found: dict[str, float | None] = {}
        for part in parts.values():
            found[f"{part['title']} F1"] = (part[key] or {}).get("macro_f1")
        scores = pooled[key] or {}
        found |= {"accuracy": scores.get("accuracy"), "macro-F1": scores.get("macro_f1"), **scores.get("f1", {})}
        rows.append((f"{_agent(figures)}, {name}", found))
    per_set = Table(
        "Each set", "set", ("items", "labels", "accuracy", "macro-F1", "FERBench accuracy", "FERBench macro-F1",
                            "classes it averages", "without a label"),
        tuple(TableRow(part["title"], (
            str(part["items"]), str(len(part["labels"])), percent(part["strict"] and part["strict"]["accuracy"]),
            percent(part["strict"] and part["strict"]["macro_f1"]),
            *(_by_rule(part["ferbench"])),
        )) for part in parts.values()),
    )  # fmt: skip
    return [_with_published(figures, "FERBench", FERBENCH_COLUMNS, rows), per_set]


def _by_rule(scores: Mapping[str, Any] | None) -> tuple[str, ...]:
    if scores is None:
        return (DASH,) * 4
    averaged, unknown = str(scores["averaged"]), str(scores["unknown"])
    return percent(scores["accuracy"]), percent(scores["macro_f1"]), averaged, unknown


def _disfa(figures: Mapping[str, Any]) -> list[Table]:
    found = figures["pooled"]["units"]
    tables = []
    for name, words in (("disfa", "eight"), ("disfa7", "seven"), ("disfa12", "twelve")):
        scores = found.get(name)
        units = [facs.format_au(unit) for unit in facs.AU_SETS[name]]
        if scores is None:
            if name == "disfa":  # the published rows are shown all the same
                tables.append(_with_published(figures, "DISFA, eight Action Units", (*units, "mean F1"), []))
            continue
        row = (_agent(figures), {**scores["f1"], "mean F1": scores["mean_f1"]})
        columns = (*units, "mean F1")
        if name == "disfa":
            tables.append(_with_published(figures, f"DISFA, {words} Action Units", columns, [row]))
        else:
            tables.append(Table(f"DISFA, {words} Action Units", "system", columns, (_own(*row, columns),)))
    return tables


def _tag(figures: Mapping[str, Any]) -> list[Table]:
    parts, pooled = figures["parts"], figures["pooled"]
    found = {part["title"]: (part["strict"] or {}).get("accuracy") for part in parts.values()}
    values = [value for value in found.values() if value is not None]
    whole = len(values) == len(found) == len(TAG_COLUMNS) - 1
    found["average"] = sum(values) / len(values) if whole else None
    main = _with_published(figures, "Seven classes, accuracy", TAG_COLUMNS, [(_agent(figures), found)])
    each = Table("Each set", "set", ("items", "accuracy", "macro-F1", "AU IoU", "with boxes of units"), tuple(
        TableRow(part["title"], (str(part["items"]), percent((part["strict"] or {}).get("accuracy")),
                                 percent((part["strict"] or {}).get("macro_f1")), percent(part["au_iou"]),
                                 str(part["au_boxed"])))
        for part in (*parts.values(), {"title": "all", **pooled})
    ))  # fmt: skip
    return [main, each]


def _fea20k(figures: Mapping[str, Any]) -> list[Table]:
    parts, pooled = figures["parts"], figures["pooled"]
    name = next(iter(pooled["units"]), None)
    columns = ("items", "accuracy", "macro-F1", "AU F1, mean of units", "AU F1, mean of items", "AU IoU",
               "ROUGE-L", "described")  # fmt: skip
    rows = []
    for part in (*parts.values(), {"title": "all", **pooled}):
        strict, units = part["strict"] or {}, part["units"].get(name) or {}
        rows.append(TableRow(part["title"], (
            str(part["items"]), percent(strict.get("accuracy")), percent(strict.get("macro_f1")),
            percent(units.get("mean_f1")), percent(units.get("image_f1")), percent(part["au_iou"]),
            percent(part["rouge_l"]), str(part["described"]),
        )))  # fmt: skip
    tables = [Table(f"{figures['title']}: {_agent(figures)}", "file", columns, tuple(rows))]
    if name is not None:
        scores = pooled["units"][name]
        each = tuple(TableRow(unit, (percent(value), str(scores["support"][unit])))
                     for unit, value in scores["f1"].items() if value is not None)  # fmt: skip
        tables.append(Table(f"Action Units of {name}", "unit", ("F1", "active in"), each))
    return tables


def _items(figures: Mapping[str, Any]) -> Table:
    """Return what became of the items, and what they cost."""
    columns = ("items", "official", "could not be run", "no answer", "other label", "parse failures",
               "parse failures, %", "zoomed, %", "tokens read", "tokens written", "cost")  # fmt: skip
    rows = []
    for part in (*figures["parts"].values(), {"title": "all", "official": None, **figures["pooled"]}):
        cost = part["cost"] or {}
        rows.append(TableRow(part["title"], (
            str(part["items"]), _count(part["official"]), str(part["errors"]), str(part["no_answer"]),
            str(part["other_label"]), str(part["parse_failures"]), percent(part["parse_failure_rate"]),
            percent(part["zoom_ratio"]), _count(cost.get("prompt_tokens")), _count(cost.get("completion_tokens")),
            f"{cost['cost']:.2f}" if cost else DASH,
        )))  # fmt: skip
    return Table("Items", "set", columns, tuple(rows))


def _by_emotion(figures: Mapping[str, Any]) -> Table:
    against = figures.get("against")
    columns = ("items", "zoomed", "F1") + ((f"F1 gain over {against}",) if against else ())
    rows = []
    for emotion, row in figures["pooled"]["emotions"].items():
        gain = (signed_percent(row.get("f1_gain")),) if against else ()
        rows.append(TableRow(emotion, (str(row["items"]), percent(row["zoom_ratio"]), percent(row["f1"]), *gain)))
    return Table("Zooming and F1 of each emotion", "emotion", columns, tuple(rows))


def _confusions(figures: Mapping[str, Any]) -> Iterable[Table]:
    for part in ({"title": "all sets", **figures["pooled"]}, *figures["parts"].values()):
        strict = part["strict"]
        if strict is not None and (len(figures["parts"]) > 1 or part["title"] != "all sets"):
            rows = tuple(TableRow(label, tuple(map(str, counts))) for label, counts in strict["confusion"].items())
            yield Table(f"Confusion matrix, {part['title']}", "label", tuple(strict["columns"]), rows)


def _terms(figures: Mapping[str, Any]) -> Table:
    parts = (*figures["parts"].values(), {"title": "all", **figures["pooled"]})
    columns = tuple(figures["pooled"]["terms"])
    rows = tuple(TableRow(part["title"], tuple(f"{part['terms'][name]:+.3f}" for name in columns)) for part in parts)
    return Table("Reward, mean", "set", columns, rows)


def _with_published(
    figures: Mapping[str, Any], title: str, columns: Sequence[str],
    own: Sequence[tuple[str, Mapping[str, float | None]]],
) -> Table:  # fmt: skip
    """Return a table of the user's rows, then the published ones with their notes."""
    notes: list[str] = []
    rows = [_own(name, found, columns) for name, found in own]
    for row in figures["published"]:
        for note in (*row["notes"], f"from {row['source']}"):
            if note not in notes:
                notes.append(note)
        marks = tuple(notes.index(note) + 1 for note in (*row["notes"], f"from {row['source']}"))
        cells = tuple(DASH if (value := row["values"].get(name)) is None else f"{value:.2f}" for name in columns)
        rows.append(TableRow(row["name"], cells, PUBLISHED, marks))
    return Table(title, "system", tuple(columns), tuple(rows), tuple(notes))


def _own(name: str, found: Mapping[str, float | None], columns: Sequence[str]) -> TableRow:
    return TableRow(name, tuple(percent(found.get(column)) for column in columns))


def _agent(figures: Mapping[str, Any]) -> str:
    return figures["agent"] + ("" if figures["looked"] else " (a script: it looked at no picture)")


def _count(value: int | None) -> str:
    return DASH if value is None else str(value)


def percent(value: float | None) -> str:
    """Return a share as a percentage with two digits behind the point, as the papers print it."""
    return DASH if value is None else f"{100 * value:.2f}"


def signed_percent(value: float | None) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    return DASH if value is None else f"{100 * value:+.2f}"
