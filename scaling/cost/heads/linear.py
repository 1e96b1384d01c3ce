"""A linear layer: on the class token for classification, on every patch token for segmentation without a decoder."""

from scaling.cost import terms
from scaling.cost.heads.head_cost import HeadCost
from scaling.cost.shapes import Count, Execution, Head, Shape

LABEL_BYTES = 8


class Classifier(HeadCost):
    """One output per class, read from the class token."""

    def parameters(self, shape: Shape, head: Head) -> Count:
        """D k + k."""
        return terms.linear_parameters(shape.width, head.classes)

    def flops(self, shape: Shape, head: Head) -> Count:
        """2 d k."""
        return terms.linear_flops(1, shape.width, head.classes)

    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Its input: in fp32 a view that keeps all tokens alive, under autocast a 16-bit copy."""
        read = 1 if execution.autocast else shape.tokens + 1
        return execution.element_bytes * shape.width * read

    def loss_bytes(self, shape: Shape, head: Head) -> Count:
        """fp32 log-probabilities and the label."""
        return 4 * head.classes + LABEL_BYTES


class LinearSegmenter(HeadCost):
    """Logits of every patch token, brought to the label map's size bilinearly."""

    def parameters(self, shape: Shape, head: Head) -> Count:
        """D k + k."""
        return terms.linear_parameters(shape.width, head.classes)

    def flops(self, shape: Shape, head: Head) -> Count:
        """2 d k for each patch token."""
        return terms.linear_flops(shape.tokens, shape.width, head.classes)

    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Its input; interpolation keeps nothing."""
        return execution.element_bytes * shape.width * shape.tokens

    def loss_bytes(self, shape: Shape, head: Head) -> Count:
        """fp32 log-probabilities and the label of each pixel."""
        return head.label_pixels(shape) * (4 * head.classes + LABEL_BYTES)

    def transient_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Logits, which live as long as the step, and gradients of log-probabilities and logits; all fp32."""
        return 3 * 4 * head.classes * head.label_pixels(shape)
