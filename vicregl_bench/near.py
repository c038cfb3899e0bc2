"""What an error says of a name that is not known."""

import difflib
from collections.abc import Callable, Collection

_FEW = 8  # names that are listed where none is near


def near_names(
    name: str,
    known: Collection[str],
    *,
    plain: Callable[[str], str] = str.casefold,
    cutoff: float = 0.6,
) -> str:
    """The end of an error about a name that is not known: those near it, or else the first few.

    Args:
        name: as the user gave it.
        known: the names there are.
        plain: what makes no difference between names is removed by it, such as upper case.
        cutoff: from 0 to 1, how alike near names are at least (`difflib.get_close_matches`).

    Returns:
        "; near it: A, B", "; there are: A, B and 3 more", or "; there is none". Where a name has a
        comma in it, all are quoted.
    """
    plain_names = {plain(one): one for one in known}
    found = difflib.get_close_matches(plain(name), plain_names, cutoff=cutoff)
    if found:
        return f"; near it: {_listed([plain_names[one] for one in found])}"
    if not known:
        return "; there is none"
    more = f" and {len(known) - _FEW} more" if len(known) > _FEW else ""
    return f"; there are: {_listed(sorted(known)[:_FEW])}{more}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(map(repr, names) if any("," in name for name in names) else names)
