"""Adventurer: a Mamba-2 mixer and a SwiGLU MLP, pre-norm with RMSNorm (Wang et al. 2024; Dao and Gu 2024).

Symbols: T = L + 1 tokens with the class token, M = L + 2 in the mixer with the heading token, d width,
D = 2 d inner width, H = D / 64 heads, N = 64 state size, Q = 256 chunk length, m SwiGLU width,
e bytes of an element in products.
"""

from scaling.cost import terms
from scaling.cost.backbone import Backbone
from scaling.cost.breakdowns import BlockParameters, BlockSaved, ElementwiseFlops, Flops
from scaling.cost.shapes import Count, Execution, Shape, larger

STATE = 64
CHUNK = 256
KERNEL = 4
STATISTICS_BYTES = 4  # an RMSNorm's fp32 reciprocal deviation, per token


def chunk_squares(tokens: Count) -> Count:
    """Sum of the squared lengths of the chunks; the last has its true length."""
    rest = tokens % CHUNK
    return tokens // CHUNK * CHUNK**2 + rest**2


def scan_flops(shape: Shape) -> Count:
    """State-space dual form, whole squares as a tensor program computes them (Dao and Gu 2024, Section 6).

    C B^T within chunks 2 S N (one group), its product with X 2 S D, chunk states and their read-out
    4 M N D, where S is the sum of squared chunk lengths.
    """
    M, D = shape.tokens + 2, 2 * shape.width
    return 2 * chunk_squares(M) * (STATE + D) + 4 * M * STATE * D


def causal_scan_flops(shape: Shape) -> Count:
    """The dual form with products of the lower triangle only: S (N + ...) becomes sum of q (q + 1)."""
    M, D = shape.tokens + 2, 2 * shape.width
    squares = chunk_squares(M)
    return 2 * squares * STATE + D * (squares + M) + 4 * M * STATE * D


def recurrent_scan_flops(shape: Shape) -> Count:
    """The sequential recurrence: decay, input and output of each state 5 M N D, and skip and gate 3 M D."""
    M, D = shape.tokens + 2, 2 * shape.width
    return M * D * (5 * STATE + 3)


def convolution_channels(shape: Shape) -> Count:
    """x, B and C pass the depthwise convolution: D + 2 N channels."""
    return 2 * shape.width + 2 * STATE


def input_projection_width(shape: Shape) -> Count:
    """z, x, B, C and dt: 2 D + 2 N + H channels."""
    return 4 * shape.width + 2 * STATE + shape.heads


class Adventurer(Backbone):
    """Costs of an Adventurer block."""

    def block_parameters(self, shape: Shape) -> BlockParameters:
        """Mixer d (2 D + 2 N + H) + 5 (D + 2 N) + 3 H + D + D d; SwiGLU 3 d m + 2 m + d; two norms 2 d.

        The mixer's projections have no bias; 3 H are dt's bias, A and D; its gated norm has D scales.
        """
        d, m = shape.width, shape.mlp_width
        mixer = terms.linear_parameters(d, input_projection_width(shape), bias=False)
        mixer += (KERNEL + 1) * convolution_channels(shape) + 3 * shape.heads + 2 * d
        mixer += terms.linear_parameters(2 * d, d, bias=False)
        norms = 2 * terms.rms_norm_parameters(d)
        return BlockParameters(mixer=mixer, mlp=terms.swiglu_parameters(d, m), norms=norms)

    def uncast_parameters(self, shape: Shape) -> Count:
        """Norms, the gated norm, the convolution, dt's bias, A and D."""
        return 4 * shape.width + 3 * shape.heads + (KERNEL + 1) * convolution_channels(shape)

    def final_norm_parameters(self, shape: Shape) -> Count:
        """One RMSNorm."""
        return terms.rms_norm_parameters(shape.width)

    def block_flops(self, shape: Shape) -> Flops:
        """Projections 2 M d (2 D + 2 N + H + D), convolution 8 M (D + 2 N), scan, SwiGLU 6 T d m."""
        T, M, d = shape.tokens + 1, shape.tokens + 2, shape.width
        return Flops(
            projections=terms.linear_flops(M, d, input_projection_width(shape) + 2 * d),
            scan=scan_flops(shape),
            convolution=terms.depthwise_convolution_flops(M, convolution_channels(shape), KERNEL),
            mlp=terms.swiglu_flops(T, d, shape.mlp_width),
        )

    def block_elementwise_flops(self, shape: Shape) -> ElementwiseFlops:
        """Three norms, SiLUs and gates of mixer and SwiGLU, residual sums and the mean over tokens."""
        T, M, d, m = shape.tokens + 1, shape.tokens + 2, shape.width, shape.mlp_width
        silu = terms.SILU * (M * (convolution_channels(shape) + 2 * d) + T * m)
        return ElementwiseFlops(
            norms=terms.RMS_NORM * (2 * T * d + M * 2 * d),
            activations=silu + M * 2 * d + T * m,
            softmax=0 * T,
            residuals=(2 * terms.RESIDUAL + 1) * T * d,
        )

    def final_norm_elementwise_flops(self, shape: Shape) -> Count:
        """One RMSNorm of all tokens."""
        return terms.RMS_NORM * (shape.tokens + 1) * shape.width

    def recomputed_block_flops(self, shape: Shape, execution: Execution) -> Flops:
        """mamba-ssm's backward repeats the convolution, C B^T and the chunk states (its ssd_combined.py, 2.3).

        Scaling's own torch path runs convolution and scan again in full.
        """
        forward, M = self.block_flops(shape), shape.tokens + 2
        fused = 2 * chunk_squares(M) * STATE + 4 * M * STATE * shape.width
        scan = fused if execution.scan == "fused" else forward.scan
        return Flops(scan=scan, convolution=forward.convolution)

    def block_saved_bytes(self, shape: Shape, execution: Execution) -> BlockSaved:
        """Inputs of every product and norm.

        Per mixer token: its input (e d); z, x, B, C and dt, e (2 D + 2 N + H); from mamba-ssm's
        MambaSplitConv1dScanCombinedFn the scan's output (e D) and the gated norm's statistic (4), from
        scaling's torch path one fp32 state (4 N D) at each border of chunks. Per token: inputs of both
        norms in fp32 (8 d) and their statistics (8); the SwiGLU's input, which autocast copies for each
        of its two projections (2 e d); both projections, the SiLU and the product (4 e m).
        """
        T, M, d, e = shape.tokens + 1, shape.tokens + 2, shape.width, execution.element_bytes
        copies = 2 if execution.autocast else 1
        borders = (M - 1) // CHUNK
        scan = M * (2 * e * d + STATISTICS_BYTES) if execution.scan == "fused" else borders * 4 * STATE * 2 * d
        return BlockSaved(
            mixer=M * e * (d + input_projection_width(shape)) + scan,
            mlp=T * e * (copies * d + 4 * shape.mlp_width),
            norms=2 * T * (4 * d + STATISTICS_BYTES),
        )

    def final_norm_saved_bytes(self, shape: Shape) -> Count:
        """Its fp32 input and statistic."""
        return (shape.tokens + 1) * (4 * shape.width + STATISTICS_BYTES)

    def transient_bytes(self, shape: Shape, execution: Execution) -> Count:
        """fp32 gradient of the stream, and the larger of those inside SwiGLU and mixer; an upper bound.

        Inside the SwiGLU those of its two hidden layers; inside the mixer those of z, x, B, C and dt,
        and of its output, or in mamba-ssm's of the scan's output, and x, B and C computed again.
        """
        T, M, e = shape.tokens + 1, shape.tokens + 2, execution.element_bytes
        swiglu = 2 * T * e * shape.mlp_width
        inside = 2 * shape.width + convolution_channels(shape) if execution.scan == "fused" else shape.width
        mixer = M * e * (input_projection_width(shape) + inside)
        return 4 * T * shape.width + larger(swiglu, mixer)
