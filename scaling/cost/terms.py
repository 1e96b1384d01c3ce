"""One small function per term that architectures share.

Conventions: one multiply-add is 2 FLOPs; only matrix and convolution products are FLOPs of the
headline, elementwise work is counted apart. Bytes are of one image. Symbols: L patch tokens, T all
tokens of a block, d width, m hidden width of the MLP, p patch size, e bytes of an element in
products (2 under autocast). The forms were checked against counts on built models: tests/cost.
"""

from scaling.cost.shapes import CHANNELS, Count, Execution, Shape

IMAGE_BYTES = 4 * CHANNELS  # fp32, per pixel
STATISTICS_BYTES = 8  # a LayerNorm's fp32 mean and reciprocal deviation, per token

# Elementwise FLOPs per element, one per addition, multiplication or function call.
LAYER_NORM, RMS_NORM, GELU, SILU, SOFTMAX, RESIDUAL = 7, 5, 8, 5, 5, 1


def patch_embedding_parameters(shape: Shape) -> Count:
    """3 p^2 d + d: a convolution with bias whose stride is its kernel (Dosovitskiy et al. 2021, eq. 1)."""
    return CHANNELS * shape.patch_size**2 * shape.width + shape.width


def patch_embedding_flops(shape: Shape) -> Count:
    """2 L (3 p^2) d over the patches cut, so the same for every patch size."""
    return 2 * CHANNELS * shape.pixels * shape.width


def position_parameters(shape: Shape) -> Count:
    """(L + 1) d: one learned vector for each patch token and the class token (Dosovitskiy et al. 2021, eq. 1)."""
    return (shape.tokens + 1) * shape.width


def linear_parameters(inputs: Count, outputs: Count, bias: bool = True) -> Count:
    """Weights, and a bias per output."""
    return inputs * outputs + outputs * bias


def linear_flops(tokens: Count, inputs: Count, outputs: Count) -> Count:
    """2 x tokens x inputs x outputs; the bias is an epilogue and not counted."""
    return 2 * tokens * inputs * outputs


def mlp_parameters(width: Count, hidden: Count) -> Count:
    """2 d m + m + d: two layers with biases (Vaswani et al. 2017, Section 3.3)."""
    return linear_parameters(width, hidden) + linear_parameters(hidden, width)


def mlp_flops(tokens: Count, width: Count, hidden: Count) -> Count:
    """4 T d m."""
    return 2 * linear_flops(tokens, width, hidden)


def swiglu_parameters(width: Count, hidden: Count) -> Count:
    """3 d m + 2 m + d: two projections in, one out, with biases (Shazeer 2020, eq. 6, with biases)."""
    return 2 * linear_parameters(width, hidden) + linear_parameters(hidden, width)


def swiglu_flops(tokens: Count, width: Count, hidden: Count) -> Count:
    """6 T d m."""
    return 3 * linear_flops(tokens, width, hidden)


def layer_norm_parameters(width: Count) -> Count:
    """Scale and shift: 2 d (Ba et al. 2016)."""
    return 2 * width


def layer_norm_bytes(shape: Shape) -> Count:
    """T (4 d + 8): the fp32 input of a LayerNorm on all tokens, and its statistics."""
    return (shape.tokens + 1) * (4 * shape.width + STATISTICS_BYTES)


def mlp_bytes(shape: Shape, execution: Execution) -> Count:
    """T e (d + 2 m): the input of a GELU MLP, and its hidden layer before and after the GELU."""
    return (shape.tokens + 1) * execution.element_bytes * (shape.width + 2 * shape.mlp_width)


def rms_norm_parameters(width: Count) -> Count:
    """Scale: d (Zhang and Sennrich 2019)."""
    return width


def attention_flops(tokens: Count, width: Count) -> Count:
    """2 T^2 d for Q K^T and 2 T^2 d for its product with V, over all heads (Vaswani et al. 2017, eq. 1)."""
    return 4 * tokens**2 * width


def depthwise_convolution_flops(tokens: Count, channels: Count, kernel: int) -> Count:
    """2 x kernel per channel and token, its padding not counted (Dao and Gu 2024, Section 7)."""
    return 2 * kernel * tokens * channels


def image_bytes(shape: Shape, execution: Execution) -> Count:
    """The image in the products' precision, which the patch embedding keeps."""
    return execution.element_bytes * CHANNELS * shape.pixels
