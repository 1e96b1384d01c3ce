"""How long until a tool is there: interpreters started in turns, ours and others'.

python -m benchmarks.startup      # three minutes on a core; rewrites its own page

The least of a few starts with warm caches counts, in processor time, which other work on the machine changes little,
and by the clock. What is not installed is left out.
"""

import resource
import time
from importlib.util import find_spec

from benchmarks.pages import python, release, write_page

ROUNDS = 3
MODULES = (
    "torch",
    "timm",
    "fvcore.nn",
    "calflops",
    "ptflops",
    "torchinfo",
    "deepspeed.profiling.flops_profiler",
    "llm_analysis.analysis",
    "transformers",
    "lmfit",
    "chinchilla",
    "ray",
    "hydra",
)


def starts() -> dict[str, tuple[str, ...]]:
    """Arguments of the interpreter, by what they start."""
    found = {
        "python": ("-c", "pass"),
        "scaling --help": ("-m", "scaling", "--help"),
        "scaling estimate deit-base/16@224": ("-m", "scaling", "estimate", "deit-base/16@224"),
        "import scaling": ("-c", "import scaling"),
        "import scaling.laws": ("-c", "import scaling.laws"),
        "import scaling.models": ("-c", "import scaling.models"),
    }
    installed = [name for name in MODULES if find_spec(name.split(".")[0])]
    versions = (release(name.split(".")[0].replace("_", "-")) for name in installed)
    return found | {
        f"import {name}, {version.replace('(not installed)', '')}": ("-c", f"import {name}")
        for name, version in zip(installed, versions, strict=True)
    }


def processor_seconds() -> float:
    """Of all processes waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def started(arguments: tuple[str, ...]) -> tuple[float, float]:
    before, began = processor_seconds(), time.perf_counter()
    python(*arguments)()
    return processor_seconds() - before, time.perf_counter() - began


def main() -> None:
    every = starts()
    taken = [{name: started(arguments) for name, arguments in every.items()} for _ in range(ROUNDS)]
    rows = []
    for name in every:
        processor, wall = (min(each) for each in zip(*(turn[name] for turn in taken), strict=True))
        rows.append((name, f"{processor:.2f} s", f"{wall:.2f} s"))
    columns = ("what", "processor time", "by the clock")
    write_page("startup", f"Start-up: the least of {ROUNDS} starts", [("", columns, rows)])


if __name__ == "__main__":
    main()
