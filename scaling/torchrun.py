"""One grid in many processes that torchrun started, also on several machines.

The first process runs the grid and announces, in the store that torchrun keeps, each cell that it begins; the others
take part in one cell after another. One that fails says so there too.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from scaling.errors import ScalingError, UsageError

PATIENCE_SECONDS = 300.0  # for one answer of the store
END = "end"
"""Announced when no cell is left."""


@dataclass(frozen=True, slots=True)
class Place:
    """This process among those that torchrun started; each has one part of every cell."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    address: str
    """Host of the first process."""
    port: int
    """Of torchrun's store there."""
    attempt: str
    """How often torchrun has restarted all."""


def find_place() -> Place | None:
    """Where torchrun has put this process; None where it was not started by torchrun.

    Raises:
        UsageError: if RANK was set by something else.
    """
    if "RANK" not in os.environ:
        return None
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        raise UsageError("RANK is set, but not by torchrun: start with torchrun -m scaling ..., or unset RANK")
    return Place(
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ["LOCAL_RANK"]),
        local_world_size=int(os.environ["LOCAL_WORLD_SIZE"]),
        address=os.environ["MASTER_ADDR"],
        port=int(os.environ["MASTER_PORT"]),
        attempt=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
    )


class Announcements:
    """Cells that the first process begins, by number from 1, and failures of the others; texts, all of them.

    Raises:
        ScalingError: from each method, when the store is gone, and with it the other processes.
    """

    def __init__(self, place: Place) -> None:
        from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

        patience = timedelta(seconds=PATIENCE_SECONDS)
        store = TCPStore(place.address, place.port, None, False, patience, wait_for_workers=False)
        self._store = PrefixStore(f"scaling/{place.attempt}", store)
        self._rank = place.rank

    def announce(self, text: str) -> int:
        """Tell the other processes the next cell; returns its number."""
        number = self._ask("add", "count", 1)
        self._ask("set", f"cell/{number}", text)
        return number

    def is_announced(self, number: int) -> bool:
        """Whether there is a cell of this number, so that those before are over."""
        return self._ask("check", [f"cell/{number}"])

    def read(self, number: int) -> str:
        """The announced cell of a number."""
        return self._ask("get", f"cell/{number}").decode()

    def fail(self, number: int, text: str) -> None:
        """Tell the first process that this one cannot go on with a cell."""
        self._ask("set", f"failure/{number}", text)

    def failure(self, number: int) -> str | None:
        """What a process that failed has told."""
        key = f"failure/{number}"
        return self._ask("get", key).decode() if self._ask("check", [key]) else None

    def _ask(self, verb: str, *arguments: Any) -> Any:
        try:
            return getattr(self._store, verb)(*arguments)
        except RuntimeError as error:  # DistNetworkError and DistStoreError are
            raise ScalingError(f"torchrun's store does not answer: {str(error).splitlines()[0]}") from None
