"""How `scaling estimate` prints its answer."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from scaling.cli.output import RowFormat, amount, interval, message, print_csv, print_json, show_table, si, size
from scaling.cost import SAFETY_MARGIN, Budget, CostEstimate, Interval, Request, Row, StageBudget, interval_fields

if TYPE_CHECKING:
    from scaling.training.check import Agreement

UNITS = {
    "parameters": si,
    "forward_flops_per_image": si,
    "training_flops_per_image": si,
    "recomputed_flops_per_image": si,
    "elementwise_flops_per_image": si,
    "communication_bytes_per_step": size,
    "scan_flops_by_convention": si,
    "saved_activation_bytes_per_image": size,
    "model_state_bytes": size,
    "step_seconds": lambda seconds: f"{seconds:.3g} s",
}


def show(rows: list[Row], request: Request, output: RowFormat, breakdown: bool, budgeted: bool) -> None:
    """Print estimates in the format asked for."""
    if output is RowFormat.JSON:
        print_json([_json(row, budgeted, breakdown) for row in rows])
    elif output is RowFormat.CSV:
        print_csv([_flat(row, budgeted) for row in rows])
    else:
        _table(rows, request, budgeted)
        for row in rows if breakdown else ():
            _breakdown_table(row.estimate)
        _notes(rows, request, of_study=any(row.of_study for row in rows))


def _json(row: Row, budgeted: bool, breakdown: bool) -> dict[str, Any]:
    found = _flat(row, budgeted)
    if budgeted:
        stages = row.budget and [
            {
                "name": part.stage.name,
                "design": str(part.stage.design),
                "epochs": part.stage.epochs,
                "gpus": part.estimate.placement.gpus if part.estimate.placement else None,
                **interval_fields("gpu_hours", part.gpu_hours),
            }
            for part in row.budget.stages
        ]
        found["stages"] = stages
    return found | ({"breakdown": row.estimate.breakdown()} if breakdown else {})


def _flat(row: Row, budgeted: bool) -> dict[str, Any]:
    found = row.estimate.to_json()
    for name in ("gpu_hours", "days", "kilowatt_hours", "dollars") if budgeted else ():
        found |= interval_fields(name, getattr(row.budget, name, None))
    return found


def _table(rows: list[Row], request: Request, budgeted: bool) -> None:
    columns = ["design", "tokens", "params (w/o pos.)", "forward", "training", "saved/img", "img/GPU", "GPUs", "nodes"]
    columns += ["img/s/GPU", "GPU-h/epoch [95 %]"]
    if budgeted:
        priced = request.price_per_gpu_hour is not None
        columns = [*columns[:-1], "GPU-hours [95 %]", "days", "kWh"] + ["$"] * priced
    lines = []
    for row in rows:
        known, placed = row.estimate, row.estimate.placement
        cells = [
            str(known.design) + (f" ({row.stage})" if row.stage else ""),
            f"{known.design.sequence_length:,}",
            f"{si(known.cost.parameters.total)} ({si(known.cost.parameters.without_positions)})",
            si(known.cost.forward_flops_per_image) + "FLOP",
            si(known.cost.training_flops_per_image) + "FLOP",
            size(known.cost.activation_bytes_per_image),
            f"{placed.images_per_gpu:,}" if placed else "-",
            f"{placed.gpus:,}" if placed else "-",
            _nodes(known),
            _number(known.images_per_second_per_gpu),
        ]
        if budgeted:
            cells += _budget_cells(row.budget, len(columns) - len(cells))
        else:
            cells.append(interval(known.gpu_hours_per_epoch))
        lines.append(cells)
    show_table(", ".join([request.hardware.name, *_how([row.estimate for row in rows])]), columns, lines)


def _how(rows: list[CostEstimate]) -> Iterator[str]:
    """How designs are trained; those of a study may differ."""
    executions = [row.execution for row in rows]
    yield _alternatives(execution.precision for execution in executions)
    yield "batch " + _alternatives(f"{row.batch_size:,}" for row in rows)
    yield _alternatives(execution.sharding for execution in executions)
    for word, values in (
        ("checkpointing", {execution.checkpointing for execution in executions}),
        ("EMA", {execution.ema for execution in executions}),
    ):
        if any(values):
            yield word if all(values) else f"{word} of some"
    if executions[0].attention != "fused":
        yield f"attention {executions[0].attention}"


def _alternatives(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))


def _nodes(known: CostEstimate) -> str:
    """Fewest nodes that hold the batch, and in brackets as many as the GPUs of the row make, if more."""
    if known.placement is None:
        return "-"
    used = -(-known.placement.gpus // known.hardware.node_size)
    fewest = known.placement.min_nodes
    return f"{fewest:,}" + (f" ({used:,})" if used > fewest else "")


def _number(value: Interval | None) -> str:
    return amount(value.estimate if value else None)


def _budget_cells(budget: Budget | None, count: int) -> list[str]:
    if budget is None:
        return ["-"] * count
    cells = [interval(budget.gpu_hours), _number(budget.days), _number(budget.kilowatt_hours)]
    return cells + ([_number(budget.dollars)] if budget.dollars else [])


def _breakdown_table(known: CostEstimate) -> None:
    lines = []
    for quantity, terms in known.breakdown().items():
        total = None if quantity == "scan_flops_by_convention" else sum(terms.values())
        for term, value in terms.items():
            if value:
                share = f"{value / total:.1%}" if total else ""
                lines.append((quantity.replace("_", " "), term.replace("_", " "), UNITS[quantity](value), share))
        if total:
            lines.append((quantity.replace("_", " "), "total", UNITS[quantity](total), ""))
    show_table(str(known.design), ("quantity", "term", "amount", "share"), lines, left=2)


def _notes(rows: list[Row], request: Request, of_study: bool) -> None:
    gpus = "GPUs: whole nodes that hold the batch without accumulation"
    if request.gpus or of_study:
        used = sorted({row.estimate.placement.gpus for row in rows if row.estimate.placement})
        gpus = f"each trains on {' or '.join(map(str, used)) or request.gpus or 1} GPU(s), accumulating as needed"
    hardware, constants = rows[0].estimate.hardware, rows[0].estimate.constants
    message("exact: parameters, FLOPs per image (matrix products, 2 per multiply-add), bytes saved for backward")
    message(
        f"estimated, with 95 % intervals: time; the device's constants come from {constants.source}\n"
        f"memory: {SAFETY_MARGIN:.0%} of {hardware.memory_bytes / 2**30:.1f} GiB is kept free; {gpus}"
    )
    budgets = [row.budget for row in rows if row.budget]
    for one in budgets:
        if len(one.stages) > 1:
            message(f"{one.stages[-1].stage.design}: " + ", then ".join(map(_stage, one.stages)))
    if len(budgets) > 1:
        message(f"all rows together: {amount(sum(one.gpu_hours.estimate for one in budgets))} GPU-hours")


def _stage(part: StageBudget) -> str:
    stage, placed = part.stage, part.estimate.placement
    gpus = placed.gpus if placed else 0
    size = max(stage.design.input_sides)
    return f"{stage.name} {stage.epochs:g} epochs at {size} on {gpus} GPUs, {amount(part.gpu_hours.estimate)} GPU-hours"


def show_agreements(found: "list[Agreement]", output: RowFormat) -> None:
    """Print closed forms beside counts."""
    rows = [
        {
            "design": one.design,
            "quantity": one.quantity,
            "closed_form": one.closed_form,
            "counted": one.counted,
            "error": one.error,
            "counter": one.counter,
            "agrees": one.agrees,
            "note": one.note,
        }
        for one in found
    ]
    if output is RowFormat.JSON:
        print_json(rows)
    elif output is RowFormat.CSV:
        print_csv(rows)
    else:
        columns = ("design", "quantity", "counter", "closed form", "counted", "error", "note")
        lines = [
            (
                one.design,
                one.quantity,
                one.counter,
                f"{one.closed_form:,}",
                "-" if one.counted is None else f"{one.counted:,}",
                "-" if one.error is None else f"{one.error:+.3%}",
                one.note,
            )
            for one in found
        ]
        show_table("", columns, lines, left=3)
