"""Plans as JSON, with all that is needed to make them again, and what changes between two of them."""

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scaling.decisions.planning.evidence import PlanError
from scaling.decisions.planning.question import Question
from scaling.decisions.planning.words import sentences
from scaling.outputs import write_output

if TYPE_CHECKING:
    from scaling.decisions.planning.plan import Plan

FORMAT = 1
NEEDED = {"question", "records", "designs", "feasible"}


def to_json(plan: "Plan") -> dict[str, Any]:
    """Plain values: the question, the records by their fingerprint, the law, and the answer."""
    evidence = plan.evidence
    law = {
        symbol: dict(zip(("low", "estimate", "high"), map(float, np.quantile(draws, (0.025, 0.5, 0.975))), strict=True))
        for symbol, draws in evidence.surface.exponents().items()
    }
    return {
        "format": FORMAT,
        "version": metadata.version("patch-scaling"),
        "question": plan.question.to_json(),
        "records": {
            "designs": len(evidence.designs),
            "fingerprint": evidence.fingerprint,
            "outcome": evidence.outcome.column,
            "task": evidence.task,
            "dataset": evidence.dataset,
            "noise": evidence.noise.words,
        },
        "law": {"formula": evidence.surface.formula, "exponents": law, "draws": evidence.surface.draws},
        "training": plan.training.words,
        "hardware": {
            "precision": plan.setting.execution.precision,
            "constants": plan.setting.constants.source,
            "memory_bytes": plan.setting.hardware.memory_bytes,
        },
        "verdict": sentences(plan),
        "designs": [asdict(each) for each in plan.ranked],
        "frontier": [asdict(each) for each in plan.frontier],
        "cost_unit": plan.cost_unit,
        "ruled_out": plan.ruled_out,
        "considered": plan.considered,
        "feasible": plan.feasible,
        "warnings": list(plan.warnings),
        "notes": list(plan.notes),
    }


def save_plan(plan: "Plan", path: Path) -> None:
    """Write a plan as JSON, whole or not at all; raises OutputError if it cannot be written."""
    write_output(path, json.dumps(to_json(plan), indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds; raises PlanError where it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:  # neither JSON nor even text
        raise PlanError(f"{path}: not JSON: {error}") from None


def read_plan(path: Path) -> dict[str, Any]:
    """A plan that `save_plan` or `--format json` wrote.

    Raises:
        PlanError: if there is none, or it is of another format.
    """
    found = read_json(path)
    whole = isinstance(found, dict) and found.get("format") == FORMAT and set(found) >= NEEDED
    if not whole or not isinstance(found["question"], dict) or not found["designs"]:
        raise PlanError(f"{path}: not a plan of this version; 'scaling plan ... --save {path}' writes one")
    return found


def question_of(saved: dict[str, Any]) -> Question:
    """The question that a saved plan answers."""
    return Question.from_json(saved["question"])


def changes(saved: dict[str, Any], plan: "Plan") -> dict[str, Any]:
    """What another question, or other records, change: question, choice, and the designs that come and go."""
    before, after = saved["question"], json.loads(json.dumps(plan.question.to_json()))
    old, new = saved["designs"][0], asdict(plan.chosen)
    numbers = ("chance_best", "chance_target", "training_flops", "days", "dollars", "gpus", "micro_batch_size")
    column = plan.evidence.outcome.column
    choice = {name: [old[name], new[name]] for name in ("design", *numbers)}
    choice |= {
        "expected": [old["predictions"].get(column, {}).get("estimate"), new["predictions"][column]["estimate"]],
        "gpu_hours": [old["gpu_hours"]["estimate"], new["gpu_hours"]["estimate"]],
    }
    names = [each["design"] for each in saved["designs"]], [each.design for each in plan.ranked]
    return {
        "question": {name: [before.get(name), value] for name, value in after.items() if before.get(name) != value},
        "records_changed": saved["records"]["fingerprint"] != plan.evidence.fingerprint,
        "choice": {name: pair for name, pair in choice.items() if pair[0] != pair[1]},
        "feasible": [saved["feasible"], plan.feasible],
        "entered": [name for name in names[1] if name not in names[0]],
        "left": [name for name in names[0] if name not in names[1]],
    }
