"""What is installed, what would be used, and what is missing."""

import importlib.util
import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from scaling.cost import constants_of, find_hardware, hardware_of_device
from scaling.errors import ScalingError
from scaling.grid.devices import Device, find_device

BASE = ("patch-scaling", "numpy", "scipy", "pandas", "pyarrow", "matplotlib", "pydantic", "typer")
TRAIN = {
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "accelerate": "accelerate",
    "fvcore": "fvcore",
    "torchmetrics": "torchmetrics",
    "safetensors": "safetensors",
    "scikit-learn": "sklearn",
    "jaxtyping": "jaxtyping",
}  # what the extra 'train' installs, and the module of each
KERNELS = {"flash-attn": "flash_attn", "mamba-ssm": "mamba_ssm", "causal-conv1d": "causal_conv1d"}
INSTALL_TRAIN = "pip install 'patch-scaling[train]'"


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
    checks += [_package(name, needed=True, fix=f"to train: {INSTALL_TRAIN}") for name in TRAIN]
    checks += _device()
    checks += [_kernel(name, module) for name, module in KERNELS.items()]
    checks += _used()
    return checks


def _package(name: str, needed: bool = False, fix: str | None = None) -> Check:
    try:
        return Check(name, True, metadata.version(name), needed, fix)
    except metadata.PackageNotFoundError:
        return Check(name, False, "not installed", needed, fix)


def require_training() -> None:
    """Raise ScalingError, with the command that helps, if a package of the extra 'train' is missing."""
    missing = [package for package, module in TRAIN.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ScalingError(f"training needs {', '.join(missing)}; run: {INSTALL_TRAIN}")


def _device() -> list[Check]:
    try:
        device = find_device("cuda")
        import torch

        finding = f"{device.count} x {torch.cuda.get_device_name()}, {device.memory_bytes / 2**30:.0f} GiB each"
    except ScalingError:
        device = find_device("cpu")
        finding = f"CPU, {device.count} cores, {device.memory_bytes / 2**30:.0f} GiB; no CUDA device"
    except Exception as error:  # a broken torch is what this command is for
        return [Check("device", False, f"torch does not load: {_first_line(error)}", True, "reinstall torch")]
    return [Check("device", True, finding, needed=True), _hardware(device)]


def _hardware(device: Device) -> Check:
    """What the estimator knows of the device that cells would run on."""
    known = hardware_of_device(device.name) if device.name else None
    if known is None:
        finding = "its times are not estimated; describe the device in a study (docs/estimating.md)"
        return Check("estimator", False, finding)
    return Check("estimator", True, f"hardware '{known}': {constants_of(find_hardware(known)).source}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _kernel(name: str, module: str) -> Check:
    """Whether a compiled kernel imports, not only whether its package is there."""
    if importlib.util.find_spec(module) is None:
        return Check(name, False, "not installed; optional, used on CUDA only")
    if module == "mamba_ssm" and importlib.util.find_spec("timm") is None:
        return Check(name, False, "installed; whether it loads is seen with the extra 'train'", fix=INSTALL_TRAIN)
    try:
        _load(module)
    except Exception as error:  # a kernel built for another torch fails in many ways
        fix = f"{name} does not match the installed torch; rebuild it: pip install --no-build-isolation {name}"
        return Check(name, False, f"installed, but does not load: {_first_line(error)}", fix=fix)
    return Check(name, True, metadata.version(name))


def _load(module: str) -> None:
    """Load a package's kernels as training does; mamba-ssm's do not need all of its package."""
    if module == "mamba_ssm":
        from scaling.models.mamba2.kernels import load_mamba_ssm

        load_mamba_ssm()
    else:
        importlib.import_module(module)


def _used() -> list[Check]:
    """The kernels that DeiT's attention and Adventurer's mixer would run on."""
    if importlib.util.find_spec("torch") is None:
        return [Check("attention", False, "needs torch"), Check("mixer", False, "needs torch")]
    try:
        import torch

        from scaling.models import kernels_on

        device = "cuda" if torch.cuda.is_available() else "cpu"
        kernels = kernels_on(device)
    except Exception as error:
        return [Check("attention", False, f"torch does not load: {_first_line(error)}")]
    attention = "torch's scaled_dot_product_attention"
    if device == "cuda" and _kernel("flash-attn", "flash_attn").ok:
        attention = "flash-attn in 16-bit training, scaled_dot_product_attention in fp32"
    mixer = f"scan by {kernels.scan}, convolution by {kernels.convolution}"
    return [Check("attention", True, attention), Check("mixer", True, mixer)]
