"""A training step of a DeiT of ours, of timm's and of transformers' vision transformer, with the same shape.

python -m benchmarks.vit_step      # a minute on a core; rewrites its own page

Forward, backward and AdamW in fp32 on a CPU. Times are processor time of one thread; the three take turns, and ratios
are medians over the rounds, with their range.
"""

import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from benchmarks.pages import in_turn, ratio, release, write_page
from scaling.design import Design
from scaling.models import build_model
from scaling.training.measure import Example

DESIGNS = ("deit-tiny/16@224", "deit-tiny/8@224", "deit-small/16@224")
IMAGES, ROUNDS, CLASSES = 2, 7, 1000
NOTE = "Ours is a subclass of timm's, so that a ratio beside 1 would be what we add; all have torch's fused attention."


class HuggingFaceViT(nn.Module):
    """transformers' vision transformer, returning logits."""

    def __init__(self, design: Design) -> None:
        from transformers import ViTConfig, ViTForImageClassification  # pyright: ignore[reportMissingImports]

        super().__init__()
        shape = design.shape
        config = ViTConfig(
            hidden_size=shape.width,
            num_hidden_layers=shape.depth,
            num_attention_heads=shape.heads,
            intermediate_size=shape.mlp_width,
            image_size=design.input_sides[0],
            patch_size=design.patch_size,
            num_labels=CLASSES,
            attn_implementation="sdpa",
        )
        self.model = ViTForImageClassification(config)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).logits


def timms(design: Design) -> nn.Module:
    shape, side = design.shape, design.input_sides[0]
    ratio_of_mlp = shape.mlp_width / shape.width
    return VisionTransformer(
        side, design.patch_size, 3, CLASSES, "token", shape.width, shape.depth, shape.heads, ratio_of_mlp
    )


def step_of(model: nn.Module, design: Design) -> Callable[[], None]:
    images, labels = Example(design.input_sides).batch(IMAGES, "cpu")
    optimizer = torch.optim.AdamW(model.train().parameters(), fused=True)

    def step() -> None:
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def row(name: str) -> tuple[str, ...]:
    design = Design.parse(name)
    models = {"ours": build_model(design, CLASSES), "timm": timms(design), "transformers": HuggingFaceViT(design)}
    same = len({sum(each.numel() for each in model.parameters()) for model in models.values()}) == 1
    taken = in_turn({by: step_of(model, design) for by, model in models.items()}, ROUNDS)
    print(name, taken, flush=True)
    ours = statistics.median(taken["ours"])
    ratios = (ratio(taken[by], taken["ours"]) for by in ("timm", "transformers"))
    return name, "yes" if same else "no", f"{ours:.2f}", *ratios


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    peers = (f"{name} {release(name)} / ours" for name in ("timm", "transformers"))
    columns = ("design", "same parameters", "ours, CPU s", *peers)
    rows = [row(name) for name in DESIGNS]
    write_page("vit_step", f"A training step of {IMAGES} images, fp32", [("", columns, rows, NOTE)])


if __name__ == "__main__":
    main()
