"""UperNet on four maps of a plain backbone, at strides p/4, p/2, p and 2p.

Symbols: L patch tokens, P positions of the map at 2p, d width of the backbone, c of the decoder, k classes,
e bytes of an element in products. The three finer maps have 16 L, 4 L and L positions.
"""

from scaling.cost import terms
from scaling.cost.heads.head_cost import HeadCost
from scaling.cost.heads.linear import LABEL_BYTES
from scaling.cost.shapes import Count, Execution, Head, Shape, larger

CHANNELS = 192  # of the decoder at most
POOLED_POSITIONS = 1 + 4 + 9 + 36
POOLS = 4
FINEST, SECOND = 16, 4  # positions for each patch token
FINER = FINEST + SECOND + 1
INDEX_BYTES = 8  # of a maximum, for backward
STATISTICS_BYTES = 8  # mean and reciprocal deviation of a normed position, fp32


class UperNet(HeadCost):
    """Decoder, and the auxiliary head where there is one; products count it, though testing leaves it out."""

    def parameters(self, shape: Shape, head: Head) -> Count:
        """Convolutions without bias and their norms; transposed and last convolutions with bias."""
        d, c, k = shape.width, decoder_channels(shape), head.classes
        rescaling = 3 * 4 * d**2 + 4 * d
        pooling = POOLS * _convolution_parameters(d, c, 1) + _convolution_parameters(d + POOLS * c, c, 3)
        pyramid = 3 * _convolution_parameters(d, c, 1) + 3 * _convolution_parameters(c, c, 3)
        fused = _convolution_parameters(4 * c, c, 3) + terms.linear_parameters(c, k)
        auxiliary = head.auxiliary * (_convolution_parameters(d, c, 3) + terms.linear_parameters(c, k))
        return rescaling + pooling + pyramid + fused + auxiliary

    def flops(self, shape: Shape, head: Head) -> Count:
        """Two transposed convolutions to p/4 and one to p/2, 48 L d^2, and a product for each position of a map."""
        L, P, d, c, k = shape.tokens, coarse_positions(shape), shape.width, decoder_channels(shape), head.classes
        rescaling = terms.linear_flops((1 + SECOND + 1) * L, d, 4 * d)
        pooling = terms.linear_flops(POOLED_POSITIONS, d, c) + terms.linear_flops(P, 9 * (d + POOLS * c), c)
        pyramid = terms.linear_flops(FINER * L, d, c) + terms.linear_flops(FINER * L, 9 * c, c)
        fused = terms.linear_flops(FINEST * L, 9 * 4 * c, c) + terms.linear_flops(FINEST * L, c, k)
        auxiliary = head.auxiliary * (terms.linear_flops(L, 9 * d, c) + terms.linear_flops(L, c, k))
        return rescaling + pooling + pyramid + fused + auxiliary

    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Inputs of every product, norm and activation; interpolation keeps nothing.

        Of the maps: in fp32 they are kept by the blocks that read them, or by the last norm; under autocast a
        16-bit copy for each product. The coarsest is pooled from the normed tokens, which stay in fp32 with the
        class token, as do the places of the maxima, and the pooled map.
        """
        L, P, d, c = shape.tokens, coarse_positions(shape), shape.width, decoder_channels(shape)
        e = execution.element_bytes
        copies = (3 + head.auxiliary) * e * L * d * execution.autocast
        coarsest = 4 * (L + 1) * d + (INDEX_BYTES + 4) * P * d
        rescaled = (4 * d + STATISTICS_BYTES + 2 * e * d) * SECOND * L + e * (FINEST + SECOND) * L * d
        pooling = e * POOLED_POSITIONS * d + e * P * (d + POOLS * c)
        fused = e * FINER * L * c + e * FINEST * L * 4 * c
        normed = POOLED_POSITIONS + P + 2 * FINER * L + FINEST * L + head.auxiliary * L
        return copies + coarsest + rescaled + pooling + fused + normed * (4 * c + STATISTICS_BYTES + e * c)

    def loss_bytes(self, shape: Shape, head: Head) -> Count:
        """fp32 log-probabilities of each pixel, of both heads where there are two, and its label."""
        return head.label_pixels(shape) * ((1 + head.auxiliary) * 4 * head.classes + LABEL_BYTES)

    def transient_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Logits, and the larger of gradients in the loss, and of the levels that are fused when it is done."""
        logits = 4 * head.classes * head.label_pixels(shape)
        fused = execution.element_bytes * FINEST * shape.tokens * 4 * decoder_channels(shape)
        heads = 1 + head.auxiliary
        return heads * logits + larger(2 * logits, fused - heads * logits)


def decoder_channels(shape: Shape) -> Count:
    """As the backbone's, and 192 at most."""
    return shape.width + CHANNELS - larger(shape.width, CHANNELS)


def coarse_positions(shape: Shape) -> Count:
    """Positions at stride 2p, odd sides rounded up."""
    return (shape.rows + 1) // 2 * ((shape.tokens // shape.rows + 1) // 2)


def _convolution_parameters(inputs: Count, outputs: Count, side: int) -> Count:
    """Without bias, and a norm."""
    return terms.linear_parameters(side**2 * inputs, outputs, bias=False) + terms.layer_norm_parameters(outputs)
