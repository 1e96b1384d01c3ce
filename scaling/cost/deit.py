"""DeiT: multi-head attention and a GELU MLP, pre-norm with LayerNorm (Touvron et al. 2021).

Symbols: T = L + 1 tokens with the class token, d width, m MLP width, h heads, e bytes of an element.
"""

from dataclasses import replace

from scaling.cost import terms
from scaling.cost.backbone import Backbone
from scaling.cost.breakdowns import BlockParameters, BlockSaved, ElementwiseFlops, Flops
from scaling.cost.shapes import Count, Execution, Shape, larger


class DeiT(Backbone):
    """Costs of a DeiT block."""

    def block_parameters(self, shape: Shape) -> BlockParameters:
        """Projections to q, k, v and back 4 d^2 + 4 d; MLP 2 d m + m + d; two LayerNorms 4 d."""
        d, m = shape.width, shape.mlp_width
        return BlockParameters(
            mixer=terms.linear_parameters(d, 3 * d) + terms.linear_parameters(d, d),
            mlp=terms.mlp_parameters(d, m),
            norms=2 * terms.layer_norm_parameters(d),
        )

    def block_flops(self, shape: Shape) -> Flops:
        """Projections 8 T d^2, scores and their product with V 4 T^2 d, MLP 4 T d m."""
        T, d, m = shape.tokens + 1, shape.width, shape.mlp_width
        return Flops(
            projections=terms.linear_flops(T, d, 4 * d),
            attention=terms.attention_flops(T, d),
            mlp=terms.mlp_flops(T, d, m),
        )

    def block_elementwise_flops(self, shape: Shape) -> ElementwiseFlops:
        """Two norms, two residual sums, GELU, and a softmax over T^2 scores per head."""
        softmax = terms.SOFTMAX * (shape.tokens + 1) ** 2 * shape.heads
        return replace(super().block_elementwise_flops(shape), softmax=softmax)

    def recomputed_block_flops(self, shape: Shape, execution: Execution) -> Flops:
        """Fused attention computes Q K^T again in backward (Dao et al. 2022, Section 3.1): 2 T^2 d."""
        fused = execution.attention == "fused"
        return Flops(attention=terms.attention_flops(shape.tokens + 1, shape.width) // 2 * fused)

    def block_saved_bytes(self, shape: Shape, execution: Execution) -> BlockSaved:
        """Inputs of every product and norm.

        Per token: inputs of both norms in fp32 (8 d) and their statistics (16); inputs of the q, k, v
        projection and of the output projection (2 e d), q, k and v (3 e d); input of the MLP (e d),
        GELU's input and output (2 e m). Fused attention keeps a log-sum-exp (4 h); materialised
        attention the probabilities: fp32, and under autocast a 16-bit copy.
        """
        T, d, e = shape.tokens + 1, shape.width, execution.element_bytes
        if execution.attention == "fused":
            scores = 4 * T * shape.heads
        else:
            scores = (4 + e * execution.autocast) * T**2 * shape.heads
        return BlockSaved(
            mixer=5 * e * T * d + scores,
            mlp=terms.mlp_bytes(shape, execution),
            norms=2 * terms.layer_norm_bytes(shape),
        )

    def transient_bytes(self, shape: Shape, execution: Execution) -> Count:
        """fp32 gradient of the stream, and the larger of those inside MLP and attention; an upper bound.

        Inside the MLP those of its hidden layer; inside materialised attention those of the scores,
        under autocast a 16-bit copy, and those of q, k and v.
        """
        T, e = shape.tokens + 1, execution.element_bytes
        inside = T * e * shape.mlp_width
        if execution.attention == "materialised":
            scores = (4 + e * execution.autocast) * T**2 * shape.heads
            inside = larger(inside, scores + 3 * e * T * shape.width)
        return 4 * T * shape.width + inside
