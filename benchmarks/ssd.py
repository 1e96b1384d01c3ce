"""One Adventurer-Base-wide mixer, forward and backward: against its two projections alone, and others' in plain torch.

python -m benchmarks.ssd      # five minutes on a core; rewrites benchmarks/results/ssd.md

The others are Hugging Face's, and one put together from the references that mamba-ssm has beside its kernels, which
need a GPU: the listing of the paper and the gated norm. Times are processor time of one thread, in turns, so that drift
of a shared machine hits all alike. Memory is the peak of torch's allocations in a forward and backward pass, over what
was there before it.
"""

import importlib
import itertools
import math
import statistics
import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import profile

from benchmarks.pages import in_turn, release, write_page
from scaling.cost import Execution, Shape, find_backbone
from scaling.design import Design
from scaling.models import build_model
from scaling.models.mamba2 import Mamba2Mixer
from scaling.models.mamba2.kernels import load_mamba_ssm
from scaling.training.measure import saved_bytes

WIDTH, DEPTH = 768, 12
LENGTHS = (197, 785, 3_137, 12_545)
PEER_UP_TO = 3_137
TURNS = {197: 9, 785: 9, 3_137: 5, 12_545: 3}
BLOCK = 64  # tokens that the paper's listing takes at once, as in its example
NAMES = ("projections", "scaling", "transformers", "mamba-ssm")
TIME = "Processor time of one thread; target: at most 1.5 times the projections, and 2.7 times faster than transformers"
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


class ReferenceMixer(nn.Module):
    """mamba-ssm's references on our parameters: its convolution without causal-conv1d, the listing, its norm."""

    def __init__(self) -> None:
        super().__init__()
        for remnant in [name for name in sys.modules if name.startswith("mamba_ssm")]:
            del sys.modules[remnant]  # transformers tried, and left what it had imported before it failed
        load_mamba_ssm()
        self.scan = importlib.import_module("mamba_ssm.modules.ssd_minimal").ssd_minimal_discrete
        self.gate = importlib.import_module("mamba_ssm.ops.triton.layernorm_gated").rms_norm_ref
        self.ours = Mamba2Mixer(WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        ours, length, inner = self.ours, tokens.shape[1], 2 * WIDTH
        z, xBC, dt = ours.in_proj(tokens).split([inner, inner + 2 * 64, inner // 64], dim=-1)
        xBC = F.silu(ours.conv1d(xBC.transpose(1, 2))[..., :length].transpose(1, 2))
        x, B, C = xBC.split([inner, 64, 64], dim=-1)
        x, dt = x.unflatten(-1, (-1, 64)), F.softplus(dt + ours.dt_bias)
        maps = (shared.unsqueeze(2).expand(-1, -1, inner // 64, -1) for shared in (B, C))
        inputs = (x * dt.unsqueeze(-1), -ours.A_log.exp() * dt, *maps)
        whole = (F.pad(one, (0, 0) * (one.dim() - 2) + (0, -length % BLOCK)) for one in inputs)
        y = self.scan(*whole, BLOCK)[0][:, :length] + ours.D.unsqueeze(-1) * x
        return ours.out_proj(self.gate(y.flatten(2), ours.norm.weight, None, z, ours.eps, norm_before_gate=False))


def times(length: int) -> dict[str, float]:
    """Median processor seconds of each, in turns."""
    calls = {"projections": projections(length), "scaling": step_of(Mamba2Mixer(WIDTH), length)}
    if length <= PEER_UP_TO:
        calls["transformers"] = step_of(hugging_face(), length)
        calls["mamba-ssm"] = step_of(ReferenceMixer(), length)
    return {name: statistics.median(taken) for name, taken in in_turn(calls, TURNS[length]).items()}


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
        ours = seconds["scaling"]
        row = [f"{length:,}", f"{1e3 * seconds['projections']:.0f}", f"{1e3 * ours:.0f}"]
        row.append(f"{ours / seconds['projections']:.2f}")
        for name in NAMES[2:]:
            theirs = seconds.get(name)
            row += [f"{1e3 * theirs:.0f}", f"{theirs / ours:.2f}"] if theirs else ["-", "-"]
        rows.append(tuple(row))
    return rows


def growth_rows(found: dict[int, dict[str, float]]) -> list[tuple[str, ...]]:
    """Exponent of time in length between neighbouring lengths."""
    rows = []
    for name in NAMES:
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
    torch.set_num_threads(1)
    found = {length: times(length) for length in LENGTHS}
    columns = ("tokens", "projections, ms", "scaling, ms", "ratio")
    columns += tuple(text for name in NAMES[2:] for text in (f"{name} {release(name)}, ms", f"{name} / scaling"))
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
