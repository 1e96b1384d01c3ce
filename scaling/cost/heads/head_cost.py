"""What the cost of a head consists of."""

from abc import ABC, abstractmethod

from scaling.cost.shapes import Count, Execution, Head, Shape


class HeadCost(ABC):
    """Closed forms of a head, per image; subclasses are stateless."""

    @abstractmethod
    def parameters(self, shape: Shape, head: Head) -> Count:
        """Trained parameters."""

    @abstractmethod
    def flops(self, shape: Shape, head: Head) -> Count:
        """Products of the forward pass of one image."""

    @abstractmethod
    def saved_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Bytes that autograd keeps of the head, its input included, up to the outputs."""

    @abstractmethod
    def loss_bytes(self, shape: Shape, head: Head) -> Count:
        """Bytes that autograd keeps of the loss, and labels."""

    def transient_bytes(self, shape: Shape, head: Head, execution: Execution) -> Count:
        """Bytes alive at the peak of its own backward, above all that is saved; an upper bound."""
        return 0 * shape.tokens
