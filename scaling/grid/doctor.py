"""What is installed, what would be used, and what is missing."""

import importlib.util
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from scaling.errors import ScalingError
from scaling.grid.devices import find_device

BASE = ("patch-scaling", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "pydantic", "typer")
TRAIN = ("torch", "torchvision", "timm", "accelerate", "fvcore", "torchmetrics", "safetensors", "scikit-learn")
KERNELS = {"flash-attn": "flash_attn", "mamba-ssm": "mamba_ssm", "causal-conv1d": "causal_conv1d"}
INSTALL_TRAIN = "to train: pip install 'patch-scaling[train]'"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `needed` ones must be ok before a cell can be trained."""

    name: str
    ok: bool
    finding: str
    needed: bool = False
    fix: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "ok": self.ok, "finding": self.finding, "needed": self.needed, "fix": self.fix}


def examine() -> list[Check]:
    """Examine the installation; imports torch if it is there."""
    checks = [Check("python", True, platform.python_version())]
    checks += [_package(name) for name in BASE]
    checks += [_package(name, needed=True, fix=INSTALL_TRAIN) for name in TRAIN]
    checks.append(_device())
    checks += [_kernel(name, module) for name, module in KERNELS.items()]
    checks.append(_attention())
    return checks


def _package(name: str, needed: bool = False, fix: str | None = None) -> Check:
    try:
        return Check(name, True, metadata.version(name), needed, fix)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", needed, fix)


def _device() -> Check:
    try:
        device = find_device("cuda")
        import torch

        finding = f"{device.count} x {torch.cuda.get_device_name()}, {device.memory_bytes / 2**30:.0f} GiB each"
    except ScalingError:
        device = find_device("cpu")
        finding = f"CPU, {device.count} cores, {device.memory_bytes / 2**30:.0f} GiB; no CUDA device"
    return Check("device", True, finding, needed=True)


def _kernel(name: str, module: str) -> Check:
    """Whether a compiled kernel imports, not only whether its package is there."""
    if importlib.util.find_spec(module) is None:
        return Check(name, False, "not installed; optional, used on CUDA only")
    try:
        importlib.import_module(module)
    except Exception as error:  # a kernel built for another torch fails in many ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        fix = f"{name} does not match the installed torch; rebuild it: pip install --no-build-isolation {name}"
        return Check(name, False, f"installed, but does not load: {reason}", fix=fix)
    return Check(name, True, metadata.version(name))


def _attention() -> Check:
    if importlib.util.find_spec("torch") is None:
        return Check("attention", False, "needs torch")
    import torch

    if torch.cuda.is_available() and _kernel("flash-attn", "flash_attn").ok:
        return Check("attention", True, "flash-attn in 16-bit training, scaled_dot_product_attention in fp32")
    return Check("attention", True, "torch's scaled_dot_product_attention")
