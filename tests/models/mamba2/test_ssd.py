"""SSD against its recurrence, and what any implementation of it must satisfy."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from scaling.models.mamba2 import ssd, ssd_recurrence, tiles
from scaling.models.mamba2.chunks import Chunk, chunk_forward
from scaling.models.mamba2.ssd import scan, scan_backward
from scaling.models.mamba2.workspace import workspace_of

Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
SIZES = [(1, 1, 1, 1, 1), (2, 63, 3, 4, 5), (1, 64, 1, 8, 16), (3, 65, 2, 5, 3), (2, 256, 2, 4, 4), (2, 700, 3, 5, 7)]
"""Images, tokens, heads, channels of a head, state size: under, at and over a block and a chunk."""


def inputs(images: int, tokens: int, heads: int, channels: int, state: int, decay: float = 16.0) -> Inputs:
    torch.manual_seed(tokens)
    exact = {"dtype": torch.float64}
    x = torch.randn(images, tokens, heads, channels, **exact)  # pyright: ignore
    dt = F.softplus(torch.randn(images, tokens, heads, **exact) - 2)  # pyright: ignore
    A = -decay * torch.rand(heads, **exact)  # pyright: ignore
    B, C = (torch.randn(images, tokens, state, **exact) for _ in range(2))  # pyright: ignore
    return x, dt, A, B, C


def leaves(given: Inputs, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [tensor.to(dtype).requires_grad_() for tensor in given]


def relative_error(found: Tensor, true: Tensor) -> float:
    found, true = found.detach(), true.detach()
    return float((found.double() - true).abs().max() / (true.abs().max() + 1e-6))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_ssd_equals_its_recurrence(sizes: tuple[int, int, int, int, int]) -> None:
    ours, true = leaves(inputs(*sizes)), leaves(inputs(*sizes))
    y, expected = ssd(*ours), ssd_recurrence(*true)
    assert relative_error(y, expected) < 1e-9
    weight = torch.randn_like(y)
    found, wanted = torch.autograd.grad(y, ours, weight), torch.autograd.grad(expected, true, weight)
    for gradient, known in zip(found, wanted, strict=True):
        assert relative_error(gradient, known) < 1e-9


def test_gradients_of_several_chunks_by_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "CHUNK", 4)
    monkeypatch.setattr(tiles, "BLOCK", 2)
    assert torch.autograd.gradcheck(ssd, leaves(inputs(2, 11, 2, 3, 2)))


def test_under_autocast_states_and_decays_stay_in_float32() -> None:
    given = inputs(2, 700, 3, 16, 16)
    true = ssd_recurrence(*given)
    for dtype in (torch.float32, torch.bfloat16):
        ours = leaves(given, dtype)
        with torch.autocast("cpu", torch.bfloat16):
            y = ssd(*ours)
        assert y.dtype == dtype
        assert relative_error(y, true) < (2e-2 if dtype == torch.bfloat16 else 1e-5)
        y.sum().backward()
        assert all(tensor.grad is not None and tensor.grad.dtype == dtype for tensor in ours)


def test_a_later_token_never_changes_an_earlier_output() -> None:
    given = inputs(1, 300, 2, 4, 4)
    before = ssd(*given)
    for token in (1, 64, 255, 256, 299):
        changed = [tensor.clone() for tensor in given]
        for tensor in (changed[0], changed[1], changed[3], changed[4]):
            tensor[:, token:] += 1.0
        after = ssd(*changed)
        assert torch.equal(after[:, :token], before[:, :token])
        assert not torch.allclose(after[:, token], before[:, token])


@pytest.mark.parametrize(("decay", "step"), [(1e4, 1.0), (1e-6, 1e3), (16.0, 0.0)])
def test_extreme_decays_neither_overflow_nor_lose_gradients(decay: float, step: float) -> None:
    x, dt, A, B, C = inputs(1, 300, 2, 4, 4, decay)
    dt = torch.full_like(dt, step)
    true = ssd_recurrence(x, dt, A, B, C)
    ours = leaves((x, dt, A, B, C), torch.float32)
    y = ssd(*ours)
    assert relative_error(y, true) < 1e-4
    y.sum().backward()
    assert all(tensor.grad is not None and bool(tensor.grad.isfinite().all()) for tensor in ours)


def test_images_of_a_batch_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    given = inputs(5, 70, 2, 4, 4)
    together = ssd(*given)
    monkeypatch.setitem(tiles.GROUP_ELEMENTS, "cpu", 2 * 70 * 8)  # two images at a time, then one
    torch.testing.assert_close(ssd(*given), together, rtol=0, atol=1e-12)
    x, dt, A, B, C = given
    for image in range(5):
        alone = ssd(x[image, None], dt[image, None], A, B[image, None], C[image, None])
        torch.testing.assert_close(alone[0], together[image], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("decay", "step"), [(16.0, 2.0), (64.0, 1.0), (1.0, 0.01)])
def test_heads_that_forget_fast_and_slowly_get_their_own_gradients(decay: float, step: float) -> None:
    """Head by head, in float32: the fast heads' gradients of A are far below the slow ones'."""
    torch.manual_seed(0)
    x, B, C = torch.randn(1, 600, 8, 16).double(), torch.randn(1, 600, 16).double(), torch.randn(1, 600, 16).double()
    dt, A = step * (0.5 + torch.rand(1, 600, 8).double()), -torch.linspace(1, decay, 8).double()
    ours, true = leaves((x, dt, A, B, C), torch.float32), leaves((x, dt, A, B, C))
    found = torch.autograd.grad(ssd(*ours).square().sum(), ours)
    known = torch.autograd.grad(ssd_recurrence(*true).square().sum(), true)
    assert float(((found[2].double() - known[2]) / known[2]).abs().max()) < 5e-3
    for head in range(8):
        assert relative_error(found[1][..., head], known[1][..., head]) < 1e-3


def test_inference_mode_leaves_training_alone() -> None:
    given = leaves(inputs(1, 1_000, 2, 4, 4), torch.float32)  # longer than any other test's, so that buffers grow
    with torch.inference_mode():
        ssd(*given)
    ssd(*given).sum().backward()
    assert given[0].grad is not None


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own
def test_the_operator_keeps_torch_s_rules() -> None:
    """Schema, fake tensors, autograd and compilation, by torch's own checker."""
    torch.library.opcheck(scan, tuple(leaves(inputs(2, 300, 2, 3, 4))))
    given = inputs(2, 300, 2, 3, 4)
    torch.library.opcheck(scan_backward, (torch.ones_like(given[0]), *given, scan(*given)[1]))


def test_compiled_in_one_graph() -> None:
    ours, compiled = leaves(inputs(2, 70, 2, 3, 4)), leaves(inputs(2, 70, 2, 3, 4))

    def loss(*given: Tensor) -> Tensor:
        return scan(*given)[0].square().sum()  # not ssd, whose shapes are checked in tests

    expected = loss(*ours)
    found = torch.compile(loss, fullgraph=True, backend="aot_eager")(*compiled)
    torch.testing.assert_close(found, expected)
    expected.backward()
    found.backward()
    for one, other in zip(ours, compiled, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("device", ["meta", "fake"])
def test_shapes_without_computing(device: str) -> None:
    with FakeTensorMode() if device == "fake" else torch.device("meta"):
        x = torch.empty(2, 300, 3, 8, requires_grad=True)
        dt, A = torch.empty(2, 300, 3), torch.empty(3)
        y = ssd(x, dt, A, torch.empty(2, 300, 4), torch.empty(2, 300, 4))
        assert y.shape == x.shape
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


@pytest.mark.parametrize(("length", "tokens"), [(100, (100,)), (256, (256,)), (600, (256, 256, 88))])
def test_flops_are_those_of_the_products_of_whole_chunks(length: int, tokens: tuple[int, ...]) -> None:
    """The registered formula against products counted in a chunk that is one block."""
    counted = 0
    for count in tokens:
        x, dt, A, B, C = inputs(1, count, 3, 4, 5)
        chunk = Chunk(x[:, None], dt[:, None], A, B[:, None], C[:, None])
        with FlopCounterMode(display=False) as counter:
            chunk_forward(chunk, torch.zeros(1, 5, 3, 4, dtype=x.dtype), workspace_of(x.dtype, x.device))
        counted += counter.get_total_flops()
    given = leaves(inputs(2, length, 3, 4, 5))
    with FlopCounterMode(display=False) as forward:
        y = ssd(*given)
    assert forward.get_total_flops() == 2 * counted
    with FlopCounterMode(display=False) as backward:
        y.sum().backward()
    assert backward.get_total_flops() == 4 * counted


def test_blocks_cover_every_token_with_little_padding() -> None:
    for length in range(1, 1100):
        spans = tiles.spans_of(length)
        assert [span.start for span in spans] == list(range(0, length, tiles.CHUNK))
        assert spans[-1].stop == length
        for span in spans:
            assert span.block_length <= tiles.BLOCK
            assert 0 <= span.blocks * span.block_length - span.length < span.blocks
