"""One Adventurer-Base-wide mixer, forward and backward: against its two projections alone, and Hugging Face's.

python -m benchmarks.ssd      # three minutes on two cores; rewrites benchmarks/results/ssd.md

Every length is timed in turns of the three, so that drift of a shared machine hits all alike. Memory is
the peak of torch's allocations in a forward and backward pass, over what was there before it.
"""

import itertools
import math
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import profile

from benchmarks.pages import write_page
from scaling.cost import Execution, Shape, find_backbone
from scaling.design import Design
from scaling.models import build_model
from scaling.models.mamba2 import Mamba2Mixer
from scaling.training.measure import saved_bytes

WIDTH, DEPTH = 768, 12
LENGTHS = (197, 785, 3_137, 12_545)
PEER_UP_TO = 3_137
TURNS = {197: 9, 785: 9, 3_137: 7, 12_545: 3}
TIME = "Time; target: ratio at most 1.5 at 785 and 3,137, and 2.7 times faster than transformers"
Call = Callable[[], object]


def projections(length: int) -> Call:
    """The mixer's two projections by themselves: what no implementation can be faster than."""
    mixer = Mamba2Mixer(WIDTH)
    first = torch.randn(1, length, WIDTH, requires_grad=True)
    second = torch.randn(1, length, 2 * WIDTH, requires_grad=True)

    def run() -> None:
        outputs = [mixer.in_proj(first), mixer.out_proj(second)]
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

    return run


def step_of(module: nn.Module, length: int) -> Call:
    tokens = torch.randn(1, length, WIDTH, requires_grad=True)

    def run() -> None:
        output: Tensor = module(tokens)
        output.backward(torch.ones_like(output))

    return run


def hugging_face() -> nn.Module:
    """Mamba-2 of transformers on its pure-torch path, with the same sizes."""
    from transformers import Mamba2Config  # pyright: ignore[reportMissingImports]
    from transformers.models.mamba2 import modeling_mamba2  # pyright: ignore[reportMissingImports]

    config = Mamba2Config(
        hidden_size=WIDTH,
        expand=2,
        head_dim=64,
        num_heads=2 * WIDTH // 64,
        state_size=64,
        n_groups=1,
        conv_kernel=4,
        chunk_size=256,
    )
    return modeling_mamba2.Mamba2Mixer(config, layer_idx=0).train()


def times(length: int) -> dict[str, float]:
    """Median seconds of each, in turns."""
    calls = {"projections": projections(length), "scaling": step_of(Mamba2Mixer(WIDTH), length)}
    if length <= PEER_UP_TO:
        calls["transformers"] = step_of(hugging_face(), length)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(TURNS[length] + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def peak_bytes(call: Call) -> int:
    """Largest sum of torch's allocations during a call, above the sum before it."""
    call()
    with profile(profile_memory=True) as recorded:
        call()
    running = peak = 0
    for event in recorded.profiler.kineto_results.events():  # pyright: ignore[reportOptionalMemberAccess]
        if event.name() == "[memory]":
            running += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            peak = max(peak, running)
    return peak


def speed_rows(found: dict[int, dict[str, float]]) -> list[tuple[str, ...]]:
    rows = []
    for length, seconds in found.items():
        floor, ours, theirs = (seconds.get(name) for name in ("projections", "scaling", "transformers"))
        assert floor
        assert ours
        peer = (f"{1e3 * theirs:.0f}", f"{theirs / ours:.2f}") if theirs else ("-", "-")
        rows.append((f"{length:,}", f"{1e3 * floor:.0f}", f"{1e3 * ours:.0f}", f"{ours / floor:.2f}", *peer))
    return rows


def growth_rows(found: dict[int, dict[str, float]]) -> list[tuple[str, ...]]:
    """Exponent of time in length between neighbouring lengths."""
    rows = []
    for name in ("projections", "scaling", "transformers"):
        known = [(length, seconds[name]) for length, seconds in found.items() if name in seconds]
        steps = [
            f"{math.log(later / earlier) / math.log(longer / shorter):.2f}"
            for (shorter, earlier), (longer, later) in itertools.pairwise(known)
        ]
        rows.append((name, *steps, *["-"] * (len(LENGTHS) - 1 - len(steps))))
    return rows


def memory_rows() -> list[tuple[str, ...]]:
    """Saved and peak bytes in MiB, over what mamba-ssm's fused path saves (closed form)."""
    rows, backbone = [], find_backbone("adventurer")
    for patch_size in (8, 4):
        shape = Shape.of(Design("adventurer", "base", patch_size, 224))
        fused = backbone.block_saved_bytes(shape, Execution("fp32")).mixer
        rows.append(
            (f"one mixer, {shape.tokens + 2:,} tokens, saved", *_ratio(saved_per_image(shape.tokens + 2), fused))
        )
    design = Design("adventurer", "base", 8, 224)
    model, images = build_model(design, 1000), torch.randn(1, 3, 224, 224)
    whole = DEPTH * backbone.block_saved_bytes(Shape.of(design), Execution("fp32")).total
    model(images).sum().backward()  # gradients of weights are there from now on
    peak = peak_bytes(lambda: model(images).sum().backward())
    rows.append((f"{design}, one image, peak of a step", *_ratio(peak, whole)))
    return rows


def saved_per_image(length: int) -> int:
    """Bytes a mixer keeps for each further image."""
    mixer = Mamba2Mixer(WIDTH)

    def saved(images: int) -> int:
        tokens = torch.randn(images, length, WIDTH)
        return saved_bytes(lambda: mixer(tokens * 1.0))

    return saved(2) - saved(1)


def _ratio(measured: int, reference: int) -> tuple[str, str, str]:
    return f"{measured / 2**20:.1f}", f"{reference / 2**20:.1f}", f"{measured / reference:.2f}"


def main() -> None:
    torch.manual_seed(0)
    found = {length: times(length) for length in LENGTHS}
    columns = ("tokens", "projections, ms", "scaling, ms", "ratio", "transformers, ms", "transformers / scaling")
    growth = ("", *(f"{one:,} to {other:,}" for one, other in itertools.pairwise(LENGTHS)))
    memory = ("", "scaling, MiB", "saved by the fused path, MiB", "ratio")
    write_page(
        "ssd",
        "The Mamba-2 mixer in torch: forward and backward, width 768, fp32, one image",
        [
            (TIME, columns, speed_rows(found)),
            ("Exponent of time in length; target: at most 1.1", growth, growth_rows(found)),
            ("Memory; target: ratio at most 1.5", memory, memory_rows()),
        ],
    )


if __name__ == "__main__":
    main()
