"""What a paper with a scaling law should report, filled in as far as the fits know it.

The questions follow Li et al. 2025, '(Mis)Fitting: A Survey of Scaling Laws', which found that most papers
leave some of them open and that each can change the conclusion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.laws.results import FitResult
from scaling.laws.solver import FEW, MANY


@dataclass(frozen=True, slots=True)
class Answer:
    """One question; `answer` is None where only the authors know it."""

    topic: str
    question: str
    answer: str | None


def checklist(results: Sequence[FitResult]) -> list[Answer]:
    """The questions with their answers for the fits of one table."""
    return [*_form(results), *_data(results), *_fitting(results[0]), *_evaluation(results)]


def _form(results: Sequence[FitResult]) -> list[Answer]:
    forms = {result.fitted.law.name: result.fitted.law for result in results}
    chosen = [result.choice.verdict for result in results if result.choice]
    return [
        Answer("law", "What is the form?", "; ".join(f"{name}: {law.formula}" for name, law in forms.items())),
        Answer("law", "Where is it from?", "; ".join(dict.fromkeys(law.source for law in forms.values()))),
        Answer("law", "What are its variables?", f"{results[0].y} against {', '.join(results[0].x)}"),
        Answer("law", "How are variables counted (embeddings, positions, heads; training or forward FLOPs)?", None),
        Answer("law", "Was it chosen, and among which?", chosen[0] if chosen else "given beforehand"),
    ]


def _data(results: Sequence[FitResult]) -> list[Answer]:
    used, left_out = sum(result.points_used for result in results), sum(len(result.left_out) for result in results)
    ranges = {}
    for result in results:
        for name, scale in zip(result.x, result.fitted.points.scales, strict=True):
            low, high = ranges.get(name, (scale.min(), scale.max()))
            ranges[name] = min(low, scale.min()), max(high, scale.max())
    spans = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in ranges.items())
    repeats = sum(result.fitted.repeats is not None for result in results)
    return [
        Answer("data", "How many points, in how many curves?", f"{used} in {len(results)}"),
        Answer("data", "Over which range?", spans),
        Answer("data", "How many were left out, and why?", f"{left_out}; each is named in the JSON"),
        Answer("data", "Are there repeats (seeds)?", f"in {repeats} of {len(results)} curves"),
        Answer("data", "Final losses of separate runs, or points of one training?", None),
    ]


def _fitting(result: FitResult) -> list[Answer]:
    options = result.fitted.options
    bounds = ", ".join(f"{name} in [{low:g}, {high:g}]" for name, (low, high) in (options.bounds or {}).items())
    search = f"dense grid with closed-form linear parameters, the best {FEW[0]} to {MANY[0]} places refined"
    search += " (Levenberg-Marquardt)"
    sources = {"residuals": "all residuals", "repeats": "repeats alone", "pooled": "repeats of all curves"}
    noise = sources[options.noise]
    return [
        Answer("fitting", "What is minimised?", f"{options.loss} of {options.residual} residuals"),
        Answer(
            "fitting",
            "How are points weighed?",
            f"tail weight {options.tail_weight:g}; link {result.fitted.points.link}",
        ),
        Answer("fitting", "How is it optimised, from which starts?", search),
        Answer("fitting", "Which bounds were set?", bounds or "amplitudes and floor not negative"),
        Answer("fitting", "How are intervals made?", f"{options.level:.0%}, {options.method}, noise from {noise}"),
    ]


def _evaluation(results: Sequence[FitResult]) -> list[Answer]:
    held = [result.extrapolation for result in results if result.extrapolation]
    extrapolated = None  # nothing was held out
    if held:
        worst = max(held, key=lambda found: found.rmse_log)
        extrapolated = f"up to {max(found.reach for found in held):.3g}x beyond; rms error at most {worst.rmse_log:.2%}"
    doubted = sum(len(result.notes) - len(result.choice.reasons if result.choice else ()) for result in results)
    return [
        Answer("evaluation", "How well does it extrapolate?", extrapolated),
        Answer("evaluation", "Are uncertainties of the parameters given?", "yes, an interval for each"),
        Answer("evaluation", "Are there doubts?", f"notes printed with the fits: {doubted}"),
        Answer("training", "Were learning rate, batch size and duration tuned for each point?", None),
        Answer("training", "Are code, records and fits public?", None),
    ]
