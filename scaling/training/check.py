"""`scaling estimate --check`: closed forms against counts on the real model, without a GPU.

The model is built on the meta device, so that nothing is allocated or computed at any size.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from timm.layers.attention import Attention
from timm.layers.config import set_reentrant_ckpt, use_reentrant_ckpt
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scaling.cost import Cost, Execution, Head, cost_of
from scaling.design import Design
from scaling.models import DeiT, DenseModel, PlainBackbone, backbone_of, build_model
from scaling.training.measure import FVCORE_LIMIT_FLOPS, Example, activation_bytes_per_image, count_flops, countable

TOLERANCE = 0.005
TERMS = {
    "patch_embed": "patch_embedding",
    "mixer": "projections + attention + convolution + scan",
    "mlp": "mlp",
    "head": "head",
}  # last part of a module's path within a backbone, and the terms that count its products
ATTENTION_TERMS = {"attn.qkv": "projections", "attn.proj": "projections", "attn": "attention"}  # those of a DeiT
PARAMETER_TERMS = {
    "patch_embed": "patch_embedding",
    "cls_token": "class_token",
    "pos_embed": "positions",
    "attn": "mixer",
    "mixer": "mixer",
    "mlp": "mlp",
    "norm1": "norms",
    "norm2": "norms",
    "norm": "norms",
    "norm_mlp": "norms",
    "head": "head",
}  # part of a parameter's name, and its term
BLOCKS, BLOCK_TERMS = "blocks", ("mixer", "mlp", "norms")
BACKBONE = "backbone."  # of a dense model; its other parts are the head
STACKS, FINAL_NORMS = ("blocks", "layers"), ("norm", "norm_f")
TORCH_SCAN = "on the torch path; mamba-ssm's kernels need CUDA"


@dataclass(frozen=True, slots=True)
class Agreement:
    """One quantity of one design: by the closed form, and as counted on the model.

    `counted` is None where counting was not possible; `note` says why.
    """

    design: str
    quantity: str
    closed_form: int
    counted: int | None
    counter: str
    note: str = ""

    @property
    def error(self) -> float | None:
        """Closed form over count, less one."""
        return None if self.counted is None else self.closed_form / self.counted - 1

    @property
    def agrees(self) -> bool | None:
        """Within 0.5 %; None where it was not counted."""
        return None if self.error is None else abs(self.error) <= TOLERANCE


def check(design: Design, head: Head, execution: Execution) -> list[Agreement]:
    """Compare every quantity of a design with counts on its model, whose scan is scaling's own.

    Raises:
        DesignError: for an architecture that has costs and no model.
        ScalingError: if a registered block fails.
    """
    with torch.device("meta"):
        model = _model(design, head)
    configure(model, execution)
    cost = cost_of(design, head, replace(execution, scan="recomputed"))
    example = Example.of(design, head)
    return list(_agreements(design, model, cost, head, execution, example))


def configure(model: nn.Module, execution: Execution) -> None:
    """Make a model attend and checkpoint as an execution says."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused_attn = execution.attention == "fused"  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(module, VisionTransformer | PlainBackbone):
            module.set_grad_checkpointing(execution.checkpointing)


def _model(design: Design, head: Head) -> nn.Module:
    return build_model(design, head.classes, head.label_sides, auxiliary=head.auxiliary, detector=head.detector)


@contextmanager
def reentrant_checkpoints() -> Iterator[None]:
    """Re-entrant checkpoints, timm's global setting, save block inputs where autograd's hooks can count them."""
    before = use_reentrant_ckpt()
    set_reentrant_ckpt(True)
    try:
        yield
    finally:
        set_reentrant_ckpt(before)


def _agreements(
    design: Design, model: nn.Module, cost: Cost, head: Head, execution: Execution, example: Example
) -> Iterator[Agreement]:
    name = str(design)
    counted = sum(parameter.numel() for parameter in model.parameters())
    yield Agreement(name, "parameters", cost.parameters.total, counted, "torch")
    for term, count in _parameter_terms(model).items():
        yield Agreement(name, f"parameters: {term}", getattr(cost.parameters, term), count, "torch")
    configure(model, Execution(execution.precision))  # FLOPs are counted without recomputation
    for term, flops in _forward_terms(model, example).items():
        ours = sum(getattr(cost.forward, part) for part in term.split(" + "))
        yield Agreement(name, f"forward FLOPs: {term}", ours, flops, "FlopCounterMode")
    flops = count_flops(model, example, fvcore=False)
    yield Agreement(name, "forward FLOPs", cost.forward.total, flops.forward, "FlopCounterMode")
    yield Agreement(name, "training FLOPs", cost.training.total, flops.training, "FlopCounterMode")
    yield _with_fvcore(design, cost, head, example)
    configure(model, execution)
    rules = "cuda" if execution.attention == "materialised" else "cpu"
    with reentrant_checkpoints():
        saved = activation_bytes_per_image(model, example, execution.precision, rules)
    note = TORCH_SCAN if design.architecture == "adventurer" else ""
    yield Agreement(name, "saved activation bytes", cost.saved.total, saved, "saved_tensors_hooks", note)


def _parameter_terms(model: nn.Module) -> dict[str, int]:
    """Parameters by term, from their names; all of the blocks together where a part of one has a name of its own."""
    found = dict.fromkeys((*PARAMETER_TERMS.values(), "final_norm"), 0)
    for name, parameter in model.named_parameters():
        term = _parameter_term(name, isinstance(model, DenseModel))
        found[term] = found.get(term, 0) + parameter.numel()
    if BLOCKS in found:
        found[BLOCKS] += sum(found.pop(term) for term in BLOCK_TERMS)
    return found


def _parameter_term(name: str, dense: bool) -> str:
    if dense and not name.startswith(BACKBONE):
        return "head"
    parts = name.removeprefix(BACKBONE).split(".")
    inside = parts[2] if parts[0] in STACKS else parts[0]
    return "final_norm" if parts[0] in FINAL_NORMS else PARAMETER_TERMS.get(inside, BLOCKS)


def _forward_terms(model: nn.Module, example: Example) -> dict[str, int]:
    """Products of a forward pass by term or sum of terms, from the counter's tree of modules."""
    images, _ = example.batch(1, "meta")
    with FlopCounterMode(display=False) as counter:
        countable(model)(images)
    found: dict[str, int] = {}
    products = {path: sum(by_operator.values()) for path, by_operator in counter.get_flop_counts().items()}
    if isinstance(model, DenseModel):
        inside = {path: count for path, count in products.items() if f".{BACKBONE}" in path}
        found["head"] = products["Global"] - sum(inside[path] for path in inside if not _is_within(path, inside))
        products = inside
    own_terms = TERMS | (ATTENTION_TERMS if isinstance(backbone_of(model), DeiT) else {})
    for path, count in products.items():
        for ending, term in own_terms.items():
            if path.endswith("." + ending):
                found[term] = found.get(term, 0) + count
    if "attention" in found:
        found["attention"] -= found["projections"]  # the attention module holds its projections
    return found


def _is_within(path: str, others: Iterable[str]) -> bool:
    """Whether a module is a part of another one of these."""
    return any(path.startswith(f"{other}.") for other in others)


def _with_fvcore(design: Design, cost: Cost, head: Head, example: Example) -> Agreement:
    name, ours = str(design), cost.forward.total
    if ours > FVCORE_LIMIT_FLOPS:
        return Agreement(name, "forward FLOPs", ours, None, "fvcore", "its trace needs a real forward pass; too long")
    theirs = count_flops(_model(design, head), example).fvcore_forward
    return Agreement(name, "forward FLOPs", ours, theirs, "fvcore", "with handles for fused attention and mixers")
