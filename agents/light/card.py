"""The model card of a light policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from actfer_env import facs

CARD = "README.md"
_FIGURES = {
    "accuracy": "accuracy", "macro_f1": "macro-F1", "au_f1": "F1 of Action Units", "zoom": "zoomed, of faces found",
    "task": "task reward", "task_never": "task reward, same weights, never zooming",
    "task_always": "task reward, same weights, zooming while they can",
}  # fmt: skip


def model_card(kept: Mapping[str, Any]) -> str:
    """Return the model card of a policy as Markdown.

    Args:
        kept: Values of `config.json`.
    """
    training = kept.get("training", {})
    lines = [
        "---", "library_name: actfer_env",
        "tags: [facial-expression-recognition, facial-action-units, reinforcement-learning]", "---", "",
        "# Light inspection policy", "",
        "A small network that inspects a face: it detects and aligns it, decides whether and where to zoom in, and",
        "answers with an emotion label and facial Action Units. It was trained with actfer_env, by behaviour cloning",
        "and then UC-GRPO.", "",
        "## Use", "",
        "```python",
        "import gymnasium as gym",
        "import actfer_env",
        "from actfer_env.agents import LightAgent", "",
        'agent = LightAgent.load("THIS_FOLDER")',
        'env = gym.make("ActFER-MultiDiscrete-v0", **agent.env_arguments)',
        "```", "",
        "On the command line: `actfer rollout my_photos/ --agent light:THIS_FOLDER`.", "",
        "## Training", "",
        *(f"- {name}: {_text(value)}" for name, value in training.items() if name != "figures"),
        f"- pictures: raw {kept['image_size']}, face {kept['face_size']}, crops {kept['crop_size']} pixels",
        f"- detector: {kept['detector']}",
        f"- budget: {kept['max_turns']} turns, {kept['max_zooms']} zooms",
        f"- actfer_env: {kept['actfer_env']}", "",
    ]  # fmt: skip
    measured = training.get("figures", {})
    figures = {text: measured[name] for name, text in _FIGURES.items() if name in measured}
    if figures:
        lines += ["## Held-out figures", "", "| figure | value |", "|---|---|"]
        lines += [f"| {text} | {_text(value)} |" for text, value in figures.items()] + [""]
    return "\n".join([
        *lines,
        "## Labels", "",
        f"Emotions: {', '.join(kept['emotions'])}.",
        f"Action Units: {', '.join(facs.format_au(unit) for unit in kept['au_set'])}.",
        f"Regions to zoom into: {', '.join(kept['regions'])}.", "",
        "An emotion label names how a face looks in one picture. It does not say what a person feels.", "",
        "## Limits", "",
        "- It knows the pictures of its training data. Figures on other data must be measured: drawn faces say nothing",
        "  about photos, and one data set's labels little about another's.",
        "- Errors of face detectors and of emotion labels are not equal for all groups of people. Report by group.",
        "- One picture is read at a time, without context.", "",
        "## Intended use", "",
        "Research on perception policies. Not for decisions about people, and not for monitoring them: not for hiring,",
        "schooling, policing, border control or advertising. Some of these uses are restricted by law.", "",
    ])  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items())
    return f"{value:.3f}" if isinstance(value, float) else "none" if value is None else str(value)
