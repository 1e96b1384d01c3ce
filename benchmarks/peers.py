"""One counting tool on one design, in a process of its own; prints one line of JSON.

python -m benchmarks.peers TOOL DESIGN
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Count = Callable[[], float | None]


def _closed_form(name: str) -> Count:
    from scaling.cost import estimate

    return lambda: estimate(name).cost.forward_flops_per_image


def _model(name: str, device: str) -> Any:
    import torch

    from scaling.design import Design
    from scaling.models import build_model

    design = Design.parse(name)
    with torch.device(device):
        return build_model(design, 1000).eval(), torch.zeros(1, 3, *design.input_sides)


def _flop_counter(name: str) -> Count:
    from torch.utils.flop_counter import FlopCounterMode

    model, image = _model(name, "meta")

    def count() -> float:
        with FlopCounterMode(display=False) as counter:
            model(image)
        return counter.get_total_flops()

    return count


def _fvcore(name: str) -> Count:
    from fvcore.nn import FlopCountAnalysis

    model, image = _model(name, "cpu")
    return lambda: 2 * FlopCountAnalysis(model, image).unsupported_ops_warnings(False).total()


def _calflops(name: str) -> Count:
    from calflops import calculate_flops  # pyright: ignore[reportMissingImports]

    model, image = _model(name, "cpu")
    shape = tuple(image.shape)
    return lambda: float(calculate_flops(model, input_shape=shape, print_results=False, output_as_string=False)[0])


def _ptflops(backend: str) -> Callable[[str], Count]:
    def prepare(name: str) -> Count:
        from ptflops import get_model_complexity_info  # pyright: ignore[reportMissingImports]

        model, image = _model(name, "cpu")
        shape = tuple(image.shape[1:])

        def count() -> float | None:
            macs, _ = get_model_complexity_info(
                model, shape, as_strings=False, print_per_layer_stat=False, verbose=False, backend=backend
            )
            return None if macs is None else 2 * float(macs)

        return count

    return prepare


def _torchinfo(name: str) -> Count:
    from torchinfo import summary  # pyright: ignore[reportMissingImports]

    model, image = _model(name, "cpu")
    return lambda: 2 * summary(model, input_data=image, verbose=0).total_mult_adds


TOOLS: dict[str, Callable[[str], Count]] = {
    "scaling estimate": _closed_form,
    "torch FlopCounterMode (meta)": _flop_counter,
    "fvcore": _fvcore,
    "calflops": _calflops,
    "ptflops, pytorch": _ptflops("pytorch"),
    "ptflops, aten": _ptflops("aten"),
    "torchinfo": _torchinfo,
}


def peak_mebibytes() -> float:
    """Peak resident memory of this process alone; getrusage would count what it was forked from."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def main(tool: str, name: str) -> None:
    started = time.perf_counter()
    count = TOOLS[tool](name)
    prepared = time.perf_counter()
    flops = count()
    done = time.perf_counter()
    found = {
        "flops": flops,
        "prepare_seconds": prepared - started,
        "call_seconds": done - prepared,
        "peak_mebibytes": peak_mebibytes(),
    }
    print("\n" + json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
