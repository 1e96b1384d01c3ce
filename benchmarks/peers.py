"""One counting tool on designs, one after another in a process of its own; prints one line of JSON.

python -m benchmarks.peers TOOL DESIGN ...

DESIGN may be MIXER: one Mamba-2 mixer of transformers, in plain torch, as wide as Adventurer-Base's, on one chunk.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIXER, MIXER_TOKENS = "transformers-mamba2", 256
Count = Callable[[], float | None]


def truth(name: str) -> int:
    """Forward FLOPs by the closed form, 2 per multiply-add."""
    from scaling.cost import Execution, Head, Shape, cost_of_shape, estimate

    if name != MIXER:
        return estimate(name).cost.forward_flops_per_image
    patches = MIXER_TOKENS - 2  # the others are the class and the heading token
    shape = Shape(768, depth=1, mlp_width=1, heads=24, patch_size=1, pixels=patches, tokens=patches, rows=1)
    forward = cost_of_shape("adventurer", shape, Head(), Execution("fp32")).forward
    return forward.projections + forward.scan + forward.convolution


def _closed_form(name: str) -> Count:
    return lambda: truth(name)


def language_model(name: str) -> tuple[Any, int]:
    """The design as llm-analysis knows models: a language model, whose words are patches; and its tokens."""
    from llm_analysis.analysis import LLMAnalysis  # pyright: ignore[reportMissingImports]
    from llm_analysis.config import ModelConfig, get_gpu_config_by_name  # pyright: ignore[reportMissingImports]

    from scaling.design import Design

    design = Design.parse(name)
    shape, tokens = design.shape, design.sequence_length + 1
    config = ModelConfig(name, shape.depth, shape.heads, shape.width, vocab_size=1000, max_seq_len=tokens)
    return LLMAnalysis(config, get_gpu_config_by_name("a100-sxm-80gb")), tokens


def _llm_analysis(name: str) -> Count:
    if not name.startswith("deit"):
        return lambda: None
    model, tokens = language_model(name)
    return lambda: model.get_num_flops_fwd_total(1, tokens)


def _model(name: str, device: str) -> Any:
    import torch

    from scaling.design import Design
    from scaling.models import build_model

    if name == MIXER:
        from benchmarks.ssd import WIDTH, hugging_face

        with torch.device(device):
            return hugging_face().eval(), torch.zeros(1, MIXER_TOKENS, WIDTH)
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


def _deepspeed(name: str) -> Count:
    from deepspeed.profiling.flops_profiler import get_model_profile  # pyright: ignore[reportMissingImports]

    model, image = _model(name, "cpu")
    quiet = {"print_profile": False, "detailed": False, "as_string": False, "warm_up": 0}
    return lambda: float(get_model_profile(model, args=[image], **quiet)[0])


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
    "deepspeed": _deepspeed,
    "torchinfo": _torchinfo,
    "llm-analysis": _llm_analysis,
}


def peak_mebibytes() -> float:
    """Peak resident memory of this process alone; getrusage would count what it was forked from."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def measured(tool: str, name: str) -> dict[str, float | str | None]:
    """FLOPs and the processor seconds it took, of all threads, or what went wrong."""
    started = time.process_time()
    try:
        count = TOOLS[tool](name)
        prepared = time.process_time()
        flops = count()
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    done = time.process_time()
    return {"flops": flops, "prepare_seconds": prepared - started, "call_seconds": done - prepared}


def main(tool: str, *names: str) -> None:
    found = {name: measured(tool, name) for name in names}
    print("\n" + json.dumps(found | {"peak_mebibytes": peak_mebibytes()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
