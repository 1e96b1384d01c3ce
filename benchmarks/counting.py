"""What other tools count of DeiT, of Adventurer, and of a Mamba-2 mixer; and of memory, against the paper's Table 6.

python -m benchmarks.counting      # five minutes on a core; rewrites its own page

Times are processor time on one thread, which other work on the machine changes little.
"""

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.estimate import FP16, TABLE_6_MEMORY
from benchmarks.pages import Table, release, write_page
from benchmarks.peers import MIXER, MIXER_TOKENS, TOOLS, language_model, truth
from scaling.cost import estimate

DESIGNS = ("deit-base/16@224", "deit-base/4@224", "adventurer-base/16@224", MIXER)
HEADING = "Forward FLOPs over the closed form, CPU seconds to prepare (the first time with imports) + to count"
OPAQUE = (
    "Our mixer is one autograd function: counters of torch's operations see its products; those that trace, or look at "
    "modules, do not, nor the output projection in it. The last column is transformers' mixer in plain torch on "
    f"one chunk of {MIXER_TOKENS} tokens, against our closed form; it computes the same scores anew for each of its 24 "
    "heads, which is 8.9 % more. None of this is what mamba-ssm's kernels would show on a GPU."
)
WORDS = (
    "llm-analysis is given a language model of 1,000 words with the same layers, whose words are patches, in 16 bits "
    "with FlashAttention; it knows no patches and no scans, but more about language models than we do."
)


def counted(tool: str) -> list[str]:
    """Cells of both tables, and peak memory, of one fresh process."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.peers", tool, *DESIGNS]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = json.loads(run.stdout.strip().splitlines()[-1])
    print(tool, found, flush=True)
    return [*(cell(found[name], truth(name)) for name in DESIGNS), f"{found['peak_mebibytes']:,.0f} MiB"]


def cell(found: dict[str, Any], expected: int) -> str:
    if "failed" in found:
        return f"failed: {found['failed']}"
    error = "no count" if found["flops"] is None else f"{found['flops'] / expected - 1:+.1%}"
    return f"{error}, {found['prepare_seconds']:.1f} + {found['call_seconds']:.2g} s"


def flops() -> Table:
    rows = [(f"{tool} {release(tool)}", *counted(tool)) for tool in TOOLS]
    return HEADING, ("tool", *DESIGNS, "peak memory"), rows, f"{OPAQUE} {WORDS}"


def memory() -> Table:
    """Activation memory that training keeps per image, in MiB, with the error against the paper's measurement."""
    rows = []
    for patch_size, measured in zip((16, 8, 4, 2, 1), TABLE_6_MEMORY, strict=True):
        name = f"deit-base/{patch_size}@224"
        model, tokens = language_model(name)
        theirs = 12 * model.get_activation_memory_per_layer(1, tokens, is_inference=False)
        found = (estimate(name, execution=FP16).cost.activation_bytes_per_image, theirs)
        shown = (f"{one / 2**20:,.1f} ({one / 2**20 / measured - 1:+.1%})" for one in found)
        rows.append((name, f"{measured:,}", *shown))
    columns = ("design", "Table 6", "scaling", f"llm-analysis {release('llm-analysis')}, its layers alone")
    return "Activation memory kept per image in training, MiB", columns, rows


def main() -> None:
    write_page("counting", "What other tools count", [flops(), memory()])


if __name__ == "__main__":
    main()
