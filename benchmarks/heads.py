"""Heads of dense tasks: their cost over the backbone alone, their step beside torchvision's, and the share of scoring.

python -m benchmarks.heads      # rewrites its own page; about five minutes on one core

Times are of processor time of one thread, which other work on the machine changes little. What is compared takes turns:
ratios are medians over the rounds of one run, with their range.
"""

import statistics
from collections.abc import Iterator

import torch

from benchmarks.mask_rcnn import comparison
from benchmarks.pages import Table, in_turn, ratio, write_page
from benchmarks.scoring import shares
from scaling.cli.output import si, size
from scaling.cost import Cost, Execution, Head, cost_of
from scaling.design import Design
from scaling.training.trials import Trial, saved_bytes_per_image, scan_of, start

TIMED = ("deit-tiny/{}@256", "adventurer-tiny/{}@256")
LARGE = ("deit-base/{}@512", "adventurer-base/{}@512")
PATCHES = (16, 8)
CLASSES = {None: 1000, "linear": 150, "upernet": 150, "cascade": 80}  # ImageNet, ADE20K, COCO
ROUNDS = 3
COLUMNS = ("design", "parameters", "forward FLOPs", "saved per image")


def trials(name: str) -> Iterator[Trial]:
    """A backbone as a classifier, and with each head."""
    for kind, classes in CLASSES.items():
        design = Design.parse(f"{name}+{kind}" if kind else name)
        yield Trial(design, Head(classes, kind), Execution("fp32", scan=scan_of("cpu")), "cpu")


def closed_form(trial: Trial) -> Cost:
    return cost_of(trial.design, trial.head, trial.execution)


def against(cost: Cost, alone: Cost) -> tuple[str, ...]:
    """Parameters, FLOPs of a forward pass and saved bytes, and how many times the classifier's."""
    amounts = (
        (si, cost.parameters.total, alone.parameters.total),
        (si, cost.forward_flops_per_image, alone.forward_flops_per_image),
        (size, cost.activation_bytes_per_image, alone.activation_bytes_per_image),
    )
    return tuple(f"{shown(value)} ({value / other:.2f})" for shown, value, other in amounts)


def timed() -> Table:
    rows = []
    for name in (each.format(patch) for each in TIMED for patch in PATCHES):
        of_heads = {str(trial.design): trial for trial in trials(name)}
        steps = {each: start(trial) for each, trial in of_heads.items()}
        taken = in_turn({each: lambda run=run: run(1, 1) for each, run in steps.items()}, ROUNDS)
        alone = next(iter(of_heads))
        for each, trial in of_heads.items():
            cost = closed_form(trial)
            counted = saved_bytes_per_image(trial) / cost.activation_bytes_per_image
            times = (f"{statistics.median(taken[each]):.2f}", ratio(taken[each], taken[alone]))
            rows.append((each, *against(cost, closed_form(of_heads[alone])), f"{counted:.3f}", *times))
            print(*rows[-1], flush=True)
    heading = "A training step of one image, and what it costs; in brackets over the classifier of the same input"
    return heading, (*COLUMNS, "counted / closed form", "step, s", "over the classifier's"), rows


def large() -> Table:
    rows = []
    for name in (each.format(patch) for each in LARGE for patch in PATCHES):
        alone, *others = trials(name)
        rows += [(str(each.design), *against(closed_form(each), closed_form(alone))) for each in others]
    return "Larger models, by closed form alone", COLUMNS, rows


def main() -> None:
    torch.set_num_threads(1)
    title = "Heads of dense tasks, fp32; processor time of one thread, ratios of a table from one run"
    write_page("heads", title, [timed(), large(), comparison(), shares()])


if __name__ == "__main__":
    main()
