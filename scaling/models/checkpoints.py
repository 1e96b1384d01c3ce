"""Weights from files: released Adventurer and DeiT checkpoints, and our own safetensors.

Nothing in a file is executed, and a model is changed only after every tensor has been checked.
"""

import argparse
import hashlib
import math
import pickle
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from scaling.design import Design, DesignError, PatchResize
from scaling.errors import ScalingError, UsageError, nearest
from scaling.models.adventurer import Adventurer
from scaling.models.deit import DeiT
from scaling.models.dense import Backbone, DenseModel, backbone_of
from scaling.models.plain import PlainBackbone
from scaling.models.resampling import resample_positions, resize_patches

POSITIONS, KERNEL, HEAD = "pos_embed", "patch_embed.proj.weight", "head."
SIGNS = {"layers.0.mixer.in_proj.weight": "an Adventurer", "blocks.0.attn.qkv.weight": "a DeiT"}
STATE_KEYS = ("model", "state_dict")
DENSE = "backbone."
WRAPPERS = ("module.", "_orig_mod.")
SHOWN = 3  # names in a message


class CheckpointError(ScalingError):
    """A file that is not a checkpoint, or not of this model."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Where weights came from, and what was done to fit them; part of a record."""

    file: str
    sha256: str
    """Of the file's content."""
    positions: str
    """'as they are', or from which grid to which."""
    patches: str
    """'as they are', or from which size to which, and how."""
    head: str
    """'loaded', or 'new' where the classifier keeps its random start."""

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def save_checkpoint(model: nn.Module, design: Design, path: Path) -> None:
    """Write a model's weights as safetensors, with its design beside them; whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    backbone = backbone_of(model)
    about = {"design": str(design)} | ({"flip": backbone.flip} if isinstance(backbone, Adventurer) else {})
    part = path.with_name(f".{path.name}.part")
    save_file(tensors, part, metadata=about)
    part.replace(path)


def load_checkpoint(model: nn.Module, path: Path, resize: str | None = None, new_head: bool = False) -> Loaded:
    """Load a checkpoint into a model, all of it or nothing.

    Position embeddings are resampled to the model's grid. A dense model takes the backbone of a
    classifier's checkpoint, and keeps its own head.

    Args:
        model: a backbone, or a dense model on one.
        path: safetensors, or a torch file with a state dict, by itself or under 'model'.
        resize: how to fit patch kernels of another size: 'flexivit' or 'bicubic'; refused if None.
        new_head: leave out the file's classifier, and keep the model's.

    Raises:
        CheckpointError: for a file that cannot be read, or weights that do not fit; the first of them are named.
        UsageError: for a resize that does not exist.
    """
    weights, old_grid, flip = read_weights(path)
    if isinstance(model, DenseModel) and not any(name.startswith(DENSE) for name in weights):
        model, new_head = model.backbone, True
    backbone = backbone_of(model)
    prefix = DENSE if backbone is not model else ""
    if flip and isinstance(backbone, Adventurer) and flip != backbone.flip:
        raise CheckpointError(f"{path}: was trained with flip = '{flip}', the model has '{backbone.flip}'")
    own = model.state_dict()
    if new_head:
        weights, own = _without_head(weights, prefix), _without_head(own, prefix)
    _check_names(path, weights, own, backbone, prefix)
    patches = _fit_patches(path, weights, own, prefix + KERNEL, resize)
    positions = _fit_positions(path, weights, own, prefix + POSITIONS, old_grid, backbone)
    _check_tensors(path, weights, own, prefix)
    model.load_state_dict(weights, strict=not new_head)
    return Loaded(str(path), _sha256(path), positions, patches, "new" if new_head else "loaded")


def read_weights(path: Path) -> tuple[dict[str, Tensor], tuple[int, int] | None, str | None]:
    """Tensors of a file by name, and the grid of their positions and the flips where the file says them.

    Raises:
        CheckpointError: if it cannot be read, or holds no state dict.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder' if path.is_dir() else 'there is no such file'}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # Released files keep their training arguments beside the weights: plain values in a Namespace.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{path}: holds more than tensors and plain values, and is not unpickled") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    except Exception:  # bytes of any other kind fail in any way
        raise CheckpointError(f"{path}: is not a file that torch.save wrote") from None
    state = content
    if isinstance(content, dict):
        state = next((content[key] for key in STATE_KEYS if isinstance(content.get(key), dict)), content)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(
            f"{path}: is not a state dict, nor a dict with one under {' or '.join(map(repr, STATE_KEYS))}"
        )
    return {_plain(str(name)): tensor for name, tensor in state.items()}, None, None


def design_of_checkpoint(path: Path) -> Design | None:
    """The design that a file of ours says it is of; None for other files.

    Raises:
        CheckpointError: if it is no safetensors file, or the design is unknown to this version.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
        return Design.parse(about["design"]) if "design" in about else None
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is not a safetensors file: {error}") from None
    except DesignError as error:
        raise CheckpointError(f"{path}: says it is of a design that this version does not know: {error}") from None


def _plain(name: str) -> str:
    """A tensor's name without what data parallelism and torch.compile put before it."""
    while name.startswith(WRAPPERS):
        name = name.split(".", 1)[1]
    return name


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], tuple[int, int] | None, str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: is not a safetensors file: {error}") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return tensors, Design.parse(about["design"]).grid if "design" in about else None, about.get("flip")
    except DesignError as error:
        raise CheckpointError(f"{path}: says it is of a design that this version does not know: {error}") from None


def _is_of_head(name: str, prefix: str) -> bool:
    """Whether a tensor is of the head; `prefix` stands before the names of a dense model's backbone."""
    return not name.startswith(prefix) if prefix else name.startswith(HEAD)


def _without_head(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not _is_of_head(name, prefix)}


def _check_names(
    path: Path, weights: dict[str, Tensor], own: dict[str, Tensor], backbone: Backbone, prefix: str
) -> None:
    """Raise unless both have the same names, saying what the file is where that is the matter."""
    missing, unexpected = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    if not missing and not unexpected:
        return
    wanted = {Adventurer: "an Adventurer", DeiT: "a DeiT"}.get(type(backbone), "of another architecture")
    found = next((kind for sign, kind in SIGNS.items() if any(name.endswith(sign) for name in weights)), None)
    if found and found != wanted:
        raise CheckpointError(f"{path}: is {found}'s checkpoint, and the model is {wanted}")
    if any(name.startswith(DENSE) for name in unexpected):
        raise CheckpointError(f"{path}: is a dense model's checkpoint, and the model is a classifier")
    if all(_is_of_head(name, prefix) for name in (*missing, *unexpected)):
        raise CheckpointError(
            f"{path}: is of a model with another head; set recipe.new_head = true to load the backbone alone"
        )
    problems = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
    problems += [f"{len(unexpected)} unexpected ({_some(unexpected)})"] if unexpected else []
    raise CheckpointError(f"{path}: does not fit the model: tensors {' and '.join(problems)}; another size?")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _fit_patches(path: Path, weights: dict[str, Tensor], own: dict[str, Tensor], name: str, resize: str | None) -> str:
    """Resize the patch kernel in `weights` if asked to, and say what was done."""
    kernel, wanted = weights[name], own[name].shape
    if kernel.ndim != 4 or kernel.shape[:2] != wanted[:2] or kernel.shape == wanted:
        return "as they are"
    (height, width), new = kernel.shape[2:], wanted[-1]
    old = str(width) if height == width else f"{height} x {width}"
    if resize is None:
        raise CheckpointError(
            f"{path}: {name} is for patches of {old}, the model's are {new}; resize it by 'flexivit' or 'bicubic'"
        )
    if resize not in get_args(PatchResize):
        raise UsageError(f"unknown resize '{resize}': {nearest(resize, get_args(PatchResize))}")
    weights[name] = resize_patches(kernel, new, resize)  # pyright: ignore[reportArgumentType]
    return f"from {old} to {new} pixels, {resize}"


def _fit_positions(
    path: Path,
    weights: dict[str, Tensor],
    own: dict[str, Tensor],
    name: str,
    old_grid: tuple[int, int] | None,
    backbone: Backbone,
) -> str:
    """Resample the positions in `weights` to the model's grid, and say what was done."""
    positions, wanted = weights[name], own[name].shape
    if positions.ndim != 3 or positions.shape[2] != wanted[2]:
        return "as they are"
    if old_grid is None and positions.shape == wanted:
        return "as they are"  # a file without a grid may be of a rectangle, as the model is
    patches = positions.shape[1] - 1
    side = math.isqrt(max(patches, 0))
    grid = old_grid or (side, side)
    if grid[0] * grid[1] != patches:
        raise CheckpointError(f"{path}: {name} has {patches} patches, which is no {grid[0]} x {grid[1]} grid")
    new_grid: tuple[int, int] = backbone.grid_size
    if grid == new_grid:
        return "as they are"
    weights[name] = resample_positions(positions, grid, new_grid, isinstance(backbone, PlainBackbone))
    return f"from {grid[0]} x {grid[1]} to {new_grid[0]} x {new_grid[1]}, bicubic"


def _check_tensors(path: Path, weights: dict[str, Tensor], own: dict[str, Tensor], prefix: str) -> None:
    """Raise for the first tensor of another shape, or that is not finite."""
    for name, tensor in weights.items():
        if tensor.shape != own[name].shape:
            have, want = tuple(tensor.shape), tuple(own[name].shape)
            hint = "set recipe.new_head = true" if _is_of_head(name, prefix) else "is it of another size?"
            raise CheckpointError(f"{path}: {name} has shape {have}, the model's is {want}; {hint}")
        if tensor.is_meta or tensor.layout is not torch.strided or not tensor.is_floating_point():
            raise CheckpointError(f"{path}: {name} is no plain tensor of real numbers")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: {name} has values that are not finite")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
