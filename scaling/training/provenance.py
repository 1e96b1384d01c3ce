"""What a result was made with: device, versions, commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from scaling.design import Design
from scaling.models import has_flash_attention, kernels_on

PACKAGES = ("patch-scaling", "torch", "timm", "accelerate", "numpy", "flash-attn", "mamba-ssm")


def device_name(device: str) -> str:
    """Marketing name of the GPU or the processor."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def kernels_of(design: Design, precision: str, device: str) -> dict[str, str]:
    """The kernels that a built-in model runs on: of a DeiT's attention, of an Adventurer's scan and convolution."""
    if design.architecture == "adventurer":
        kernels = kernels_on(device)
        return {"scan": kernels.scan, "convolution": kernels.convolution}
    if design.architecture != "deit":
        return {}
    flash = device == "cuda" and precision != "fp32" and has_flash_attention()
    return {"attention": "flash-attn" if flash else "sdpa"}


def versions() -> dict[str, str]:
    """Installed versions of what determines a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def commit(but: Path | None = None) -> str | None:
    """Commit of the repository around the working directory, with '+' for changes that are not committed.

    Changes in run directories, which grow while cells are trained, are no changes of code, nor are those in `but`.
    """
    try:
        head, top = _git("rev-parse", "HEAD", "--show-toplevel").splitlines()
        names = _git("diff", "--name-only", "-z", "HEAD", "--", ":/").split("\0")
    except (OSError, subprocess.SubprocessError):
        return None
    changed = [Path(top) / name for name in names if name]
    kept = but.resolve() if but is not None else None
    return head + "+" * any(kept not in path.parents and not _is_in_a_run(path) for path in changed)


def _is_in_a_run(path: Path) -> bool:
    return any((folder / "study.toml").is_file() and (folder / "cells").is_dir() for folder in path.parents)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
