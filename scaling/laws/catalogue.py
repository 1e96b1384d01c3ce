"""The laws by name."""

from scaling.errors import UsageError, nearest
from scaling.laws.joint import Chinchilla, DataLimited, Interaction, ModelAndPatch, ModelPatchAndInput, Multiplicative
from scaling.laws.law import Law
from scaling.laws.single import Bounded, Broken, LogLinear, Power, Saturating, Shifted, Sigmoid

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Power(),
        Saturating(),
        Shifted(),
        Bounded(),
        Sigmoid(),
        Broken(),
        LogLinear(),
        ModelAndPatch(),
        ModelPatchAndInput(),
        Interaction(),
        Multiplicative(),
        DataLimited(),
        Chinchilla(),
    )
}


def find_law(name: str) -> Law:
    """The law of a name.

    Raises:
        UsageError: for an unknown one, with the nearest.
    """
    if name not in LAWS:
        raise UsageError(f"unknown law '{name}': {nearest(name, LAWS)}")
    return LAWS[name]
