"""Figures of a run's summary in words: the tiles and tables of the report, and what a terminal shows."""

from __future__ import annotations

from actfer_env import facs
from actfer_env.evaluation.metrics import Summary

DASH = "–"
Row = tuple[str, str, str]
"""Name, value and note."""


def summary_rows(summary: Summary) -> list[Row]:
    """Return the headline figures as (name, value, note), for the report's tiles and for a terminal."""
    rows: list[Row] = []
    played = _is_script(summary)
    if not played or summary.labelled or summary.au_labelled:  # a script's answers as the script's, if there are labels
        whose = "script’s " if played else ""
        labelled = f"{summary.labelled} labelled of {summary.n - (0 if played else summary.scripted)}"
        derived = "derived from the emotion" if summary.aus_derived else f"macro, {summary.au_labelled} labelled"
        rows += [
            (f"{whose}accuracy", share(summary.accuracy), "no policy looked" if played else labelled),
            (f"{whose}macro-F1", number(summary.macro_f1), counted(len(summary.emotion_f1), "emotion")),
            (f"{whose}AU F1", number(summary.au_macro_f1), f"{derived}; {_named_set(summary)}"),
        ]
    rows += [
        ("zoomed", share(summary.zoom_ratio), f"{share(summary.zoom_ratio_with_face)} where a face was found"),
        ("with violations", share(summary.violation_rate), counted(sum(summary.violations.values()), "violation")),
        ("mean reward", signed(summary.terms.get("total")), f"{number(summary.mean_turns, 1)} turns on average")
        if summary.terms else ("turns", number(summary.mean_turns, 1), "on average"),
    ]  # fmt: skip
    if summary.parse_failure_rate is not None:  # conversations: what could not be read, and what one took
        used = summary.usage
        tokens = used.get("prompt_tokens", 0) + used.get("completion_tokens", 0)
        note = f"{tokens:.0f} tokens, {used.get('seconds', 0):.1f} seconds an episode" if used else ""
        rows.append(("parse failures", share(summary.parse_failure_rate), note))
        if summary.cut_turns:
            rows.append(("cut turns", str(summary.cut_turns), "at the bound on a turn's tokens: raise it"))
    return rows


def summary_tables(summary: Summary) -> list[tuple[str, list[Row]]]:
    """Return the summary as titled tables of name, value and note."""
    tables: list[tuple[str, list[Row]]] = []
    played = _is_script(summary)
    if not played or summary.labelled or summary.au_labelled:
        note = "derived from the emotion: says nothing beyond it" if summary.aus_derived else ""
        answers = [
            ("episodes", str(summary.n), f"{summary.labelled} with an emotion label, {summary.answered} answered"),
            ("accuracy", share(summary.accuracy), "no answer counts as wrong"),
            ("macro-F1", number(summary.macro_f1), "over the emotions that occur as targets"),
            ("AU F1, macro", number(summary.au_macro_f1), _named_set(summary) + f"; {note}" * bool(note)),
            ("AU F1, per episode", number(summary.au_instance_f1), note or f"{summary.au_labelled} with AU labels"),
        ]
        if summary.au_boxed:
            answers.append(("AU IoU", number(summary.au_iou), f"{summary.au_boxed} with boxes of AUs"))
        tables.append(("The script’s answers" if played else "Answers", answers))
    behaviour = [
        ("zoomed", share(summary.zoom_ratio), "of all episodes"),
        ("zoomed with a face", share(summary.zoom_ratio_with_face), f"of {counted(summary.with_face, 'episode')}"),
        *((f"detection {name.replace('_', ' ')}", str(count), "") for name, count in summary.detections.items()),
        ("turns", number(summary.mean_turns, 1), "on average"),
        ("turns used up", share(summary.truncated), "of episodes, without an answer"),
    ]
    if summary.parse_failure_rate is not None:
        behaviour += [
            ("parse failures", share(summary.parse_failure_rate), "of episodes have one"),
            *((f"outcome {name.replace('_', ' ')}", str(count), "") for name, count in summary.outcomes.items()),
            *((name.replace("_", " "), number(value, 1), "an episode") for name, value in summary.usage.items()),
        ]
    violations = [
        ("episodes with any", share(summary.violation_rate), ""),
        *(
            (name, str(count), f"in {share(summary.violation_rates[name])} of episodes")
            for name, count in summary.violations.items()
        ),
    ]
    reward = [("Reward, mean", [(name, signed(value), "") for name, value in summary.terms.items()])]
    return [*tables, ("Behaviour", behaviour), *(reward if summary.terms else ()), ("Violations", violations)]


def _is_script(summary: Summary) -> bool:
    """Return whether a script played all episodes."""
    return bool(summary.n) and summary.scripted == summary.n


def _named_set(summary: Summary) -> str:
    """Return which Action Units are averaged: "8 of 18 Action Units of core"."""
    count = len(summary.au_f1)
    if summary.au_set is None:
        return f"{counted(count, 'Action Unit')} that occur"
    return f"{count} of {counted(len(summary.au_set), 'Action Unit')} of {facs.format_au_set(summary.au_set)}"


def share(value: float | None) -> str:
    """Return a share as a percentage, without a digit behind the point where it is 0 or 1."""
    return DASH if value is None else f"{value:.0%}" if value in (0, 1) else f"{value:.1%}"


def number(value: float | None, digits: int = 2) -> str:
    """Return a number with a fixed count of digits behind the point."""
    return DASH if value is None else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """Return a number with its sign, a true minus, and no sign on zero."""
    if value is None:
        return DASH
    text = f"{value:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text.replace("-", "−")


def counted(count: int, thing: str) -> str:
    """Return a count with its noun: "1 episode", "2 episodes"."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
