"""How pilots and simulated studies are printed."""

from typing import TYPE_CHECKING

from scaling.cli.output import Format, amount, message, print_json, show_table, si

if TYPE_CHECKING:
    from scaling.decisions.planning.doubts import Doubt
    from scaling.decisions.planning.pilots import Pilots
    from scaling.decisions.planning.plan import Plan
    from scaling.decisions.planning.simulation import Simulation, Told


def show_pilots(pilots: "Pilots", plan: "Plan", output: Format) -> None:
    """Print the runs to do next, or their JSON and nothing else."""
    from scaling.decisions.planning import Budget

    if output is Format.JSON:
        print_json({"choice": plan.chosen.design} | pilots.to_json())
        return
    print(f"* {_stake(plan.chosen.design, pilots.now, pilots.unit)}")
    if not pilots.pilots:
        print(
            f"* No run within {pilots.budget} is worth its cost: of {pilots.candidates} that could be made, none is "
            "expected to improve the choice."
        )
        return
    what = f"After {_count(len(pilots.pilots), 'pilot')}"
    print(f"* {_afterwards(what, pilots.after, pilots.unit)}\n")
    rows = [
        [
            each.design + (" (another seed)" if each.again else ""),
            f"{amount(each.gpu_hours)}",
            f"{each.days:.2g}",
            _chance(each.after),
            _regret(each.after, pilots.unit),
        ]
        for each in pilots.pilots
    ]
    rows.insert(0, ["now", "-", "-", _chance(pilots.now), _regret(pilots.now, pilots.unit)])
    columns = ("pilot", "GPU-hours", "days", "wrong", "regret")
    show_table("what to run next; each row with the pilots above it", columns, rows)
    cost, left = (Budget(number, pilots.budget.unit) for number in (pilots.cost, pilots.left))
    message(f"pilots: {cost} of {pilots.budget}; {left} remain")
    message("wrong: chance that another design is better than the choice; regret: by how much, on average")


def show_simulation(simulation: "Simulation", plan: "Plan", output: Format) -> None:
    """Print what a study would tell, or its JSON and nothing else."""
    if output is Format.JSON:
        print_json({"choice": plan.chosen.design} | simulation.to_json())
        return
    print(f"* {_stake(plan.chosen.design, simulation.now, simulation.unit)}")
    what = f"After {simulation.study} ({_count(simulation.cells, 'cell')}, {amount(simulation.gpu_hours)} GPU-hours)"
    print(f"* {_afterwards(what, simulation.after, simulation.unit)}\n")
    scale = 1.0 if simulation.unit == "loss" else 100.0
    columns = ("", "expected", "95 % now", "95 % after", "width")
    show_table(
        "expected outcomes" + ("" if scale == 1 else ", in %"), columns, [_row(x, scale) for x in simulation.contenders]
    )
    show_table("exponents", columns, [_row(each, 1.0) for each in simulation.exponents])
    message(f"cost: {amount(simulation.gpu_hours)} GPU-hours, {si(simulation.flops)}FLOP")
    for note in simulation.notes:
        message(f"note: {note}")


def _stake(design: str, now: "Doubt", unit: str) -> str:
    return (
        f"{design} is chosen; the chance that another design is better is {_chance(now)}, and the choice gives away "
        f"{_regret(now, unit)} on average."
    )


def _afterwards(what: str, after: "Doubt", unit: str) -> str:
    return f"{what}: a chance of {_chance(after)} of choosing wrongly, and {_regret(after, unit)} given away."


def _row(told: "Told", scale: float) -> list[str]:
    now, after = (f"[{scale * low:.4g}, {scale * high:.4g}]" for low, high in (told.now, told.after))
    before, then = told.widths
    return [told.name, f"{scale * told.estimate:.4g}", now, after, f"{then / before:.0%}" if before else "-"]


def _chance(held: "Doubt") -> str:
    return f"{held.chance_wrong:.1%}"


def _regret(held: "Doubt", unit: str) -> str:
    return f"{held.regret:.2g} {unit}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
