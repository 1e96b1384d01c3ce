"""Options of `scaling plan` as a question."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from scaling.cost import find_hardware
from scaling.decisions.planning import (
    Question,
    check_spending,
    parse_budget,
    parse_bytes,
    parse_days,
    parse_inference,
    parse_target,
)
from scaling.design import check_new_study
from scaling.errors import UsageError
from scaling.outputs import check_output


def _names(option: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        if not names:
            raise UsageError(f"--{option} '{text}': names nothing; write names with commas between, or leave it out")
        return names

    return parse


def _numbers(option: str) -> Callable[[str], tuple[int, ...]]:
    def parse(text: str) -> tuple[int, ...]:
        try:
            return tuple(int(name) for name in _names(option)(text))
        except ValueError:
            raise UsageError(f"--{option} '{text}': write whole numbers such as 16,8,4") from None

    return parse


# Options whose text means another value, with the field of the question that it is.
READ: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "budget": ("budget", parse_budget),
    "deadline": ("deadline_days", parse_days),
    "target": ("target", parse_target),
    "memory_per_gpu": ("memory_bytes", parse_bytes),
    "architectures": ("architectures", _names("architectures")),
    "sizes": ("sizes", _names("sizes")),
    "input_sizes": ("input_sizes", _numbers("input-sizes")),
    "patch_sizes": ("patch_sizes", _numbers("patch-sizes")),
    "only": ("only", tuple),
    "without": ("without", tuple),
    "calibration": ("calibration", str),
    "y": ("outcome", str),
    "extrapolate": ("extrapolation", float),
}
AS_THEY_ARE = (
    *("price", "hardware", "gpus", "precision", "checkpointing", "scan", "sharding", "batch_size", "epochs"),
    *("recipe", "train_images", "free_sizes", "study", "task", "seed_noise", "hold_out"),
)
NONE = "none"
LIMITS = {"budget", "deadline", "target", "inference_budget", "memory_per_gpu"}
"""Options that `NONE` drops from the question asked before."""
EITHER = (("epochs", "recipe"),)
"""Options of which the later question's one replaces the other."""


COMPARES = "shows what becomes of the plan"
MODES = ("path", "next_pilots", "simulate", "schedule")
OF_SCHEDULE = ("study", "schedule", "write", "output")


def check_modes(options: Mapping[str, Any], typed: Mapping[str, str]) -> None:
    """Refuse options that cannot stand together, rather than ignore one.

    Args:
        options: values by name.
        typed: names of those that were typed, with how.

    Raises:
        UsageError: for two further questions at once, or an option that only another one uses.
    """
    modes = [option for name, option in typed.items() if name in MODES]
    if len(modes) > 1:
        raise UsageError(f"{modes[0]} and {modes[1]} are two questions; ask one at a time")
    if ("next_pilots" in typed) != ("pilot_budget" in typed):
        raise UsageError("--next and --pilot-budget belong together: --next 5 --pilot-budget '200 gpu-hours'")
    if "write" in typed and not {"next_pilots", "schedule"} & set(typed):
        raise UsageError("--write is of the study file of --next or --schedule; --save writes the plan")
    if "figure" in typed and modes and modes[0] != "--path":
        raise UsageError(f"--figure draws the plan or its --path; {modes[0]} has none")
    if "figure" in typed:
        from scaling.figures import check_file

        check_file(options["figure"])
    for name in ("figure", "save"):
        if name in typed:
            check_output(options[name])
    if "write" in typed:
        check_new_study(options["write"])
    others = [option for name, option in typed.items() if name not in OF_SCHEDULE]
    if "schedule" in typed and others:
        raise UsageError(f"--schedule is planned from the curves of --study alone; leave out {others[0]}")
    for name, use in (("against", COMPARES), ("hold_out", COMPARES), ("top", "lists designs of the plan")):
        if name in typed and modes:
            raise UsageError(f"{typed[name]} {use}; leave out {modes[0]}")


def ask(options: Mapping[str, Any], asked: Question | None) -> Question:
    """The question of the options given; those left out are as in a question asked before, or by default.

    Raises:
        UsageError: for an option that cannot be read, or that contradicts another.
    """
    given = {name: value for name, value in options.items() if value not in (None, [], ())}
    dropped = {name for name in LIMITS & set(given) if str(given[name]).strip().lower() == NONE}
    given = {name: value for name, value in given.items() if name not in dropped}
    values: dict[str, Any] = {name: given[name] for name in AS_THEY_ARE if name in given}
    values |= {field: read(given[name]) for name, (field, read) in READ.items() if name in given}
    values |= {READ[name][0]: None for name in dropped & set(READ)}
    if "inference_budget" in dropped:
        values |= {"inference_flops": None, "inference_milliseconds": None}
    if "inference_budget" in given:
        amount, unit = parse_inference(given["inference_budget"])
        values |= {"inference_flops": None, "inference_milliseconds": None, f"inference_{unit}": amount}
    base = asked or Question()
    if "nodes" in given:
        values["gpus"] = _gpus_of(given["nodes"], given.get("gpus"), values.get("hardware", base.hardware))
    for pair in EITHER:
        for one, other in (pair, pair[::-1]):
            if one in values and other not in values:
                values[other] = None
    question = replace(base, **values)
    if str(given.get("target", "")).strip().endswith("%") and (question.outcome or "").endswith("loss"):
        raise UsageError(f"--target '{given['target']}': a loss is no percentage; write it as a number such as 0.7")
    check_spending(question)  # and the hardware, before the work starts
    find_hardware(question.hardware)
    return question


def _gpus_of(nodes: int, gpus: int | None, hardware: str) -> int:
    size = find_hardware(hardware).node_size
    if gpus is not None and gpus != nodes * size:
        raise UsageError(f"--nodes {nodes} of {size} {hardware} are {nodes * size} GPUs, not --gpus {gpus}; give one")
    return nodes * size
