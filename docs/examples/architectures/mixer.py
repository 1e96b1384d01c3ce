"""MLP-Mixer (Tolstikhin et al. 2021): an MLP over all tokens of a channel, then one over all channels of a token."""

from scaling.cost import Backbone, BlockParameters, BlockSaved, Flops, register_architecture, terms
from scaling.design import Architecture, ModelSize


def shape_of(width, depth):
    """Shape of a free width and depth; the MLP over tokens is as wide as half the channels."""
    return ModelSize(width, depth, mlp_width=4 * width, heads=1)


class MixerCosts(Backbone):
    """Costs of one block: T tokens with the class token, d channels, e bytes of an element in products."""

    def block_parameters(self, shape):
        T, d = shape.tokens + 1, shape.width
        return BlockParameters(
            mixer=terms.mlp_parameters(T, d // 2),
            mlp=terms.mlp_parameters(d, shape.mlp_width),
            norms=2 * terms.layer_norm_parameters(d),
        )

    def block_flops(self, shape):
        T, d = shape.tokens + 1, shape.width
        return Flops(projections=terms.mlp_flops(d, T, d // 2), mlp=terms.mlp_flops(T, d, shape.mlp_width))

    def block_saved_bytes(self, shape, execution):
        T, d, e = shape.tokens + 1, shape.width, execution.element_bytes
        return BlockSaved(
            mixer=e * d * (T + 2 * (d // 2)),  # its input, and the hidden layer before and after the GELU
            mlp=terms.mlp_bytes(shape, execution),
            norms=2 * terms.layer_norm_bytes(shape),
        )


def block(design, drop_path):
    """One block for tokens (images, T, d); torch is imported here, since `scaling estimate` works without it."""
    from timm.layers import DropPath, Mlp
    from torch import nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            tokens, width = design.sequence_length + 1, design.shape.width
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mixer, self.mlp = Mlp(tokens, width // 2), Mlp(width, design.shape.mlp_width)
            self.drop_path = DropPath(drop_path)

        def forward(self, x):
            x = x + self.drop_path(self.mixer(self.norm1(x).transpose(1, 2)).transpose(1, 2))
            return x + self.drop_path(self.mlp(self.norm2(x)))

    return Block()


def register():
    sizes = {"nano": shape_of(32, 3), "small": shape_of(512, 8), "base": shape_of(768, 12), "large": shape_of(1024, 24)}
    register_architecture("mixer", Architecture(shape_of, sizes, block), MixerCosts())
