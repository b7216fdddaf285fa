"""One rollout's reward in plain words, with its numbers; the HTML report shows these lines."""

from __future__ import annotations

from actfer_env.rewards.config import UCGRPOConfig
from actfer_env.rewards.quality import broken_turns, measure_quality
from actfer_env.rewards.scores import Scores
from actfer_env.rewards.structure import form_faults, is_clean, is_unlooked
from actfer_env.rewards.task import TaskCase, task_case
from actfer_env.rewards.utility import in_contrast, phi
from actfer_env.rollout import Rollout


def explain_rollout(rollout: Rollout, scores: Scores, i: int, config: UCGRPOConfig) -> list[str]:
    """Return a line for each term of rollout `i`, then one for the total and the advantage.

    Args:
        rollout: The rollout.
        scores: The scores that hold it.
        i: Its index there.
        config: The constants that it was scored with.
    """
    lines = [_task_line(rollout, scores, i, config)]
    if scores.gated[i]:
        lines.append("gate: no rollout of the group has the right emotion, so only the task term counts")
    else:
        lines += [
            _structure_line(rollout, scores, i, config),
            _utility_line(rollout, scores, i, config),
            _quality_line(rollout, scores, i, config),
        ]
    parts = " ".join(f"{value:+.2f}" for name, value in scores.terms(i).items() if name != "total")
    total, advantage = scores.total[i], scores.advantage[i]
    return [*lines, f"total: {parts} = {total:.2f}; advantage in its group {advantage:+.2f}"]


def _task_line(rollout: Rollout, scores: Scores, i: int, config: UCGRPOConfig) -> str:
    f1 = scores.parts["f1"][i]
    result = f"{scores.task[i]:.2f}"
    wrong = f"wrong emotion ({rollout.predicted_emotion}, target {rollout.emotion})"
    halved = f"{config.wrong_au_share:.2f} x {config.beta:.2f} x F1 {f1:.2f}"
    lines: dict[TaskCase, str] = {
        "unanswered": f"no answer: -gamma = {result}",
        "unlabelled": f"the sample has no target to compare with: {result}",
        "aus_only": f"no emotion target, the F1 alone: {result}",
        "right": f"right emotion: {config.alpha:.2f} + {config.beta:.2f} x F1 {f1:.2f} = {result}",
        "right_no_aus": f"right emotion, no AU target in use: {result}",
        "wrong": f"{wrong}: -{config.gamma:.2f} + {halved} = {result}",
        "wrong_no_aus": f"{wrong}, no AU target in use: -gamma = {result}",
    }
    return f"task: {lines[task_case(rollout, config)]}"


def _structure_line(rollout: Rollout, scores: Scores, i: int, config: UCGRPOConfig) -> str:
    faults = form_faults(rollout, config)
    if is_clean(rollout) and not faults:
        return f"structure: a clean, legal trajectory: {config.structure_clean:+.2f}"
    reasons = []
    raw = 0.0
    if rollout.violations:
        raw += len(rollout.violations) * config.structure_violation
        names = ", ".join(rollout.violations)
        reasons.append(f"{len(rollout.violations)} x {config.structure_violation:.2f} for {names}")
    if is_unlooked(rollout):
        raw += config.structure_unlooked
        reasons.append(f"{config.structure_unlooked:.2f} for an answer without detect_align")
    for count, charge, what in faults:
        raw += count * charge
        reasons.append(f"{count} x {charge:.2f} for {what}")
    floor = f", not below {config.structure_floor:.2f}" if raw < config.structure_floor else ""
    why = " and ".join(reasons) if reasons else "no violation, but no finished answer either"
    return f"structure: {why}{floor} = {scores.structure[i]:.2f}"


def _utility_line(rollout: Rollout, scores: Scores, i: int, config: UCGRPOConfig) -> str:
    rule, result = scores.rules[i], f"{scores.utility[i]:+.2f}"
    if config.zoom_cost and rollout.zoomed:
        result = f"{scores.utility[i] + config.zoom_cost:+.2f}, less {config.zoom_cost:.2f} for zooming = {result}"
    if rule == "none":
        return f"utility: none in this variant: {result}"
    did = "zoomed" if rollout.zoomed else "did not zoom"
    if rule == "zoom":
        return f"utility: it {did}, and this variant rewards zooming alone: {result}"
    if rule == "fallback":
        return f"utility: {_fallback_reason(rollout, scores, config)}: {result}"
    delta = scores.delta[rollout.group_id] or 0.0
    margin = config.margin
    if rule == "neutral":
        return f"utility: delta {delta:+.2f} within +-{margin:.2f}, zooming made no difference: {result}"
    sign = f"> {margin:.2f}" if delta > 0 else f"< -{margin:.2f}"
    if rule == "agreed":
        return f"utility: delta {delta:+.2f} {sign} and it {did}: {result}"
    name, factor = "miss" if rule == "missed" else "over", scores.reading(i)["lambda"]
    cost = phi(abs(delta), config)
    return (
        f"utility: delta {delta:+.2f} {sign} but it {did}: "
        f"-lambda_{name} {factor:.2f} x phi({abs(delta):.2f}) {cost:.2f} = {result}"
    )


def _fallback_reason(rollout: Rollout, scores: Scores, config: UCGRPOConfig) -> str:
    if config.utility == "fallback":
        why = "this variant does not contrast zooming"
    elif rollout.detection == "failed":
        why = "face detection failed"
    elif not in_contrast(rollout, config):
        why = f"left out of the contrast, whose members are {config.contrast_members!r}"
    else:
        why = "no zoom contrast in the group"
    if rollout.correct is None:
        return f"{why}, and no emotion target for the fallback"
    if config.fallback_of == "unzoomed" and in_contrast(rollout, config):
        return f"{why}, fallback judged by the group's unzoomed answers, or by its own without any"
    return f"{why}, fallback for a {'right' if rollout.correct else 'wrong or missing'} emotion"


def _quality_line(rollout: Rollout, scores: Scores, i: int, config: UCGRPOConfig) -> str:
    if not rollout.texts:
        return "quality: no text to judge: 0.00"
    found = measure_quality(rollout.texts, config.quality_script, broken_turns(rollout))
    return (
        f"quality: {found.format_errors:.0%} of turns with format errors, {found.repetition:.0%} of 4-grams "
        f"repeated, {found.foreign:.0%} of letters outside {config.quality_script}: {scores.quality[i]:.2f}"
    )
