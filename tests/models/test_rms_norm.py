import torch
from torch import nn

from scaling.models.rms_norm import RMSNorm
from scaling.training.measure import saved_bytes


def test_it_is_torch_s_own() -> None:
    torch.manual_seed(0)
    ours, theirs = RMSNorm(24, eps=1e-5).double(), nn.RMSNorm(24, eps=1e-5).double()
    nn.init.normal_(ours.weight)
    theirs.load_state_dict(ours.state_dict())
    x, weight = torch.randn(2, 7, 24, dtype=torch.float64), torch.randn(2, 7, 24, dtype=torch.float64)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    (ours(one) * weight).sum().backward()
    (theirs(other) * weight).sum().backward()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(one.grad, other.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
    assert torch.autograd.gradcheck(ours, x.requires_grad_())


def test_one_token_and_backward_under_autocast() -> None:
    """Gradients are those in single precision, wherever backward is called."""
    torch.manual_seed(0)
    norm, x = RMSNorm(24, eps=1e-5), torch.randn(24, requires_grad=True)
    (expected,) = torch.autograd.grad(norm(x).square().sum(), norm.weight)
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = torch.autograd.grad(norm(x).square().sum(), norm.weight)
    assert torch.equal(found, expected)


def test_it_keeps_its_input_and_a_number_per_token() -> None:
    norm, x = RMSNorm(24, eps=1e-5), torch.randn(2, 7, 24, requires_grad=True)
    assert saved_bytes(lambda: norm(x * 1.0)) == 4 * (2 * 7 * 24 + 2 * 7 + 24)
