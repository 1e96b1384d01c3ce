"""The two kinds of error a user can meet; both print as a few plain lines, never a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


class ScalingError(Exception):
    """Work that failed: a broken record, an unwritable folder. The command exits with 1."""

    exit_code = 1


class UsageError(ScalingError):
    """A request that cannot be carried out as written. The command exits with 2."""

    exit_code = 2


SHOWN_NAMES = 20


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a misspelt word: the nearest known one, or the list of them."""
    known = list(known)
    close = [name for name in known if word and name.startswith(word)] or get_close_matches(word, known, n=1)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    more = ", ..." if len(known) > SHOWN_NAMES else ""
    return f"known: {', '.join(known[:SHOWN_NAMES])}{more}"
