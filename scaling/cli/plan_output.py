"""What `scaling plan` prints."""

from collections.abc import Callable
from functools import partial
from typing import Any

from scaling.cli.output import Format, amount, message, print_json, show_table, si
from scaling.decisions import OUTCOMES
from scaling.decisions.planning import (
    Budget,
    HeldOut,
    Plan,
    Prediction,
    Ranked,
    changes,
    interval_words,
    ruled_out,
    sentences,
    to_json,
    value_words,
)

WIDE = 0.5  # half an interval, from which it is shown as a factor
LONG = 0.5  # share of FLOPs in attention from which it is shown


def show_plan(plan: Plan, saved: dict[str, Any] | None, held_out: HeldOut | None, output: Format) -> None:
    """The answer, with what changes against a saved plan, and what the laws said of records they did not see."""
    if output is Format.JSON:
        more = {"changes": changes(saved, plan)} if saved is not None else {}
        print_json(to_json(plan) | more | ({"held_out": held_out.to_json()} if held_out else {}))
        return
    print("\n".join(f"* {sentence}" for sentence in sentences(plan)))
    print()
    _show_ranked(plan)
    if saved is not None:
        _show_changes(changes(saved, plan))
    if held_out is not None:
        _show_held_out(held_out, plan)
    message(f"{ruled_out(plan)}; trained by {plan.training.words}")
    law, evidence = plan.evidence.surface, plan.evidence
    message(f"law over {len(evidence.designs)} designs: {law.formula}; speeds: {plan.setting.constants.source}")
    for note in (*plan.warnings, *plan.notes):
        message(f"note: {note}")


def _show_ranked(plan: Plan) -> None:
    target = plan.question.target is not None
    columns: dict[str, Callable[[Ranked], str]] = {
        "design": lambda each: each.design + _marks(each),
        **{f"{OUTCOMES[name].label} [95 %]": partial(_outcome, name=name) for name in plan.chosen.predictions},
        "measured": lambda each: "-" if each.measured is None else value_words(each.measured, plan.evidence.outcome),
        "reaches it" if target else "best": lambda each: f"{(each.chance_target if target else each.chance_best):.2f}",
        "GPU-hours": lambda each: f"{amount(each.gpu_hours.estimate)} {_error(each.gpu_hours)}",
        "FLOPs": lambda each: si(each.training_flops),
        "dollars": lambda each: amount(each.dollars),
        "days": lambda each: amount(each.days),
        "GPUs": lambda each: " x ".join(map(str, (each.gpus, each.micro_batch_size, each.accumulation))),
        "memory": lambda each: f"{each.memory_bytes_per_gpu / 2**30:.3g} GiB",
        "next patch": lambda each: each.limited_by,
    }
    empty = ["measured"] if all(each.measured is None for each in plan.ranked) else []
    empty += ["dollars"] if plan.chosen.dollars is None else []
    empty += ["FLOPs"] if plan.cost_unit != "flops" else []
    shown = {name: column for name, column in columns.items() if name not in empty}
    rows = [[column(each) for column in shown.values()] for each in plan.ranked]
    where = " on ".join(filter(None, (plan.evidence.task, plan.evidence.dataset)))
    limit = f", at most {plan.question.budget}" if plan.question.budget else ""
    show_table(f"{where}: laws of {plan.question.study}{limit}, {plan.setting.hardware.name}", list(shown), rows)
    said = "reaches it: chance of one training" if target else "best: chance of the best expected outcome of all"
    marked = "; *: beyond the records" if any("*" in _marks(each) for each in plan.ranked) else ""
    long = "; ~: most FLOPs are in attention" if any("~" in _marks(each) for each in plan.ranked) else ""
    print(
        f"{said}; GPUs x micro-batch x accumulation; memory of a GPU; next patch: the limit it breaks{marked}{long}\n"
    )


def _marks(each: Ranked) -> str:
    return ("*" if each.extrapolated else "") + ("~" if each.attention_share > LONG else "")


def _outcome(each: Ranked, name: str) -> str:
    return interval_words(each.predictions[name], OUTCOMES[name]) if name in each.predictions else "-"


def _error(found: Prediction) -> str:
    """Half the interval as a share of the estimate, or as a factor where it is wide."""
    half = (found.high - found.low) / 2 / found.estimate
    return f"± {half:.0%}" if half < WIDE else f"x/÷ {found.high / found.estimate:.2g}"


def _show_changes(found: dict[str, Any]) -> None:
    rows = [[f"asked: {name}", *map(_plain, pair)] for name, pair in found["question"].items()]
    rows += [[name.replace("_", " "), *map(_plain, pair)] for name, pair in found["choice"].items()]
    rows += [["designs within the limits", *map(_plain, found["feasible"])]]
    if found["records_changed"]:
        rows.append(["records", "other ones", "than then"])
    show_table("what changes", ("", "then", "now"), rows, left=3)
    for name in ("entered", "left"):
        if found[name]:
            print(f"{name} the list: {', '.join(found[name])}")


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return str(Budget(**value))
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "-"
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_held_out(found: HeldOut, plan: Plan) -> None:
    outcome = plan.evidence.outcome
    rows = [
        [design, interval_words(predicted, outcome), value_words(value, outcome), "" if inside else "outside"]
        for design, predicted, value, inside in found.rows()
    ]
    show_table("records that the laws did not see", ("design", f"{outcome.label} [95 %]", "reached", ""), rows)
    rank = f", rank correlation {found.rank_correlation:.2f}" if found.rank_correlation is not None else ""
    print(f"{found.inside} of {len(found.designs)} inside their 95 % interval{rank}\n")
