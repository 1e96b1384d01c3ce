"""One grid in many processes that torchrun started, also on several machines.

The first process runs the grid and announces, in the store that torchrun keeps, each cell that it begins; the others
take part in one cell after another. One that fails says so there too.
"""

import json
import os
import time
import uuid
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from scaling.errors import ScalingError, UsageError

PATIENCE_SECONDS = 300.0  # for one answer of the store
LOOK_SECONDS = 0.5  # between two looks for news
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""By which PyTorch takes a process for one of several that train."""
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
    session: str = ""
    """Made up by the first process for all; see `meet`."""


def find_place() -> Place | None:
    """Where torchrun has put this process, before a session; None where it was not started by torchrun.

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
    )


class Announcements:
    """Cells that the first process begins, by number from 1, and failures of the others; texts, all of them.

    Args:
        place: of this process, in a session that has begun.

    Raises:
        ScalingError: here and from each method, when the store is gone, and with it the other processes.
    """

    def __init__(self, place: Place) -> None:
        self._store = _Store(place, f"session/{place.session}")

    def announce(self, text: str) -> int:
        """Tell the other processes the next cell; returns its number."""
        number = self._store.ask("add", "count", 1)
        self._store.ask("set", f"cell/{number}", text)
        return number

    def is_announced(self, number: int) -> bool:
        """Whether there is a cell of this number, so that those before are over."""
        return self._store.ask("check", [f"cell/{number}"])

    def read(self, number: int) -> str:
        """The announced cell of a number."""
        return self._store.ask("get", f"cell/{number}").decode()

    def fail(self, number: int, text: str) -> None:
        """Tell the first process that this one cannot go on with a cell."""
        self._store.ask("set", f"failure/{number}", text)

    def failure(self, number: int) -> str | None:
        """What a process that failed has told."""
        key = f"failure/{number}"
        return self._store.ask("get", key).decode() if self._store.ask("check", [key]) else None


def meet(place: Place) -> Place:
    """Begin a session with the other processes; the store may still hold those from before a restart.

    Every process that follows writes a name made up just now, and takes no session but one whose invitation has that
    name; so who leads it is alive.
    """
    store = _Store(place, "meeting")
    if place.rank:
        name = uuid.uuid4().hex
        store.ask("set", f"name/{place.rank}", name)
        while not (invitation := store.read("invitation")) or invitation["names"].get(str(place.rank)) != name:
            time.sleep(LOOK_SECONDS)
        store.ask("set", f"joined/{invitation['session']}/{place.rank}", "")
        return replace(place, session=invitation["session"])
    session, others = uuid.uuid4().hex, range(1, place.world_size)
    while not all(store.ask("check", [f"joined/{session}/{rank}"]) for rank in others):
        present = [rank for rank in others if store.ask("check", [f"name/{rank}"])]
        names = {rank: store.ask("get", f"name/{rank}").decode() for rank in present}
        store.ask("set", "invitation", json.dumps({"session": session, "names": names}))
        time.sleep(LOOK_SECONDS)
    return replace(place, session=session)


class _Store:
    """Torchrun's store, or a part of it by name."""

    def __init__(self, place: Place, part: str) -> None:
        from torch.distributed import PrefixStore, TCPStore  # pyright: ignore[reportPrivateImportUsage]

        patience = timedelta(seconds=PATIENCE_SECONDS)
        try:
            store = TCPStore(place.address, place.port, None, False, patience, wait_for_workers=False)
        except RuntimeError as error:
            raise _gone(error) from None
        self._part = PrefixStore(f"scaling/{part}", store)

    def ask(self, verb: str, *arguments: Any) -> Any:
        try:
            return getattr(self._part, verb)(*arguments)
        except RuntimeError as error:  # DistNetworkError and DistStoreError are
            raise _gone(error) from None

    def read(self, key: str) -> Any:
        """The JSON of a key, or None."""
        return json.loads(self.ask("get", key)) if self.ask("check", [key]) else None


def _gone(error: RuntimeError) -> ScalingError:
    return ScalingError(f"torchrun's store does not answer: {str(error).splitlines()[0]}")
