"""How the images of a step are dealt to processes."""

from itertools import islice

import pytest

from scaling.data import Share


@pytest.mark.parametrize(("micro", "ranks"), [(8, 1), (2, 1), (4, 2), (1, 4), (2, 4)])
def test_processes_share_each_step_without_overlap(micro: int, ranks: int) -> None:
    batch, steps = 8, 3
    for step in range(steps):
        seen = []
        for rank in range(ranks):
            share = Share(batch, micro, first_step=step, rank=rank, ranks=ranks)
            for start in islice(share.starts(), share.micro_steps):
                seen += range(start, start + micro)
        assert sorted(seen) == list(range(step * batch, (step + 1) * batch))


def test_a_later_first_step_continues_where_the_first_steps_end() -> None:
    whole = list(islice(Share(12, 2, rank=1, ranks=3).starts(), 10))
    late = list(islice(Share(12, 2, first_step=3, rank=1, ranks=3).starts(), 4))
    assert whole[6:] == late
