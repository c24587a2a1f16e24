"""How people and programs write that a value is missing."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

# pandas, R, SQL, spreadsheets and printf write these; none is a word that a category would be called
_EVERYWHERE = frozenset(
    {
        *("", "NA", "na", "N/A", "n/a", "N.A.", "n.a.", "NaN", "nan", "NAN", "-NaN", "-nan", "NULL", "Null", "null"),
        *("(null)", "<NA>", "NaT", "\\N", "#N/A", "#N/A N/A", "#NA", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NAME?"),
        *("#NULL!", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "?", "-", "--", "---", "\u2013", "\u2014", ".", ".."),
    }
)
# words that may be a category ("none" of three sorts of heating), but not among numbers; in lower case
_AMONG_NUMBERS = frozenset(name.casefold() for name in _EVERYWHERE) | {
    *("none", "nil", "missing", "(missing)", "[missing]", "unknown", "(unknown)", "not known", "undefined", "void"),
    *("not available", "not applicable", "unavailable", "blank", "(blank)", "empty", "(empty)", "no data", "nodata"),
    *("n/d", "nd", "n.d.", "tbd", "tba", "??", "???", "*", "...", "\u2026", "(none)", "<null>", "<none>", "<nan>"),
    *("0000-00-00", "0000-00-00 00:00:00"),
}


def is_missing(
    texts: Sequence[str], *, words: bool = False, among: Collection[str] | None = None
) -> npt.NDArray[np.bool_]:
    """Which texts say that there is no value.

    Parameters
    ----------
    texts : sequence of str
        Different texts of one column, without space around them.
    words : bool
        Whether words count, as they do where numbers or dates are expected: ``unknown`` and ``none`` among
        words are words.
    among : collection of str, optional
        The categories of the column, where they are known from another table.

    Returns
    -------
    ndarray of bool, one for each text

    Examples
    --------
    >>> is_missing(["", "NA", "none", "red"]).tolist(), is_missing(["-", "none", "3"], words=True).tolist()
    ([True, True, False, False], [True, True, False])

    A minus is a value where there is a plus:

    >>> is_missing(["+", "-"]).tolist(), is_missing(["-"], among=["+"]).tolist()
    ([False, False], [False])
    """
    known = _AMONG_NUMBERS if words else _EVERYWHERE
    if "+" in (() if words else texts) if among is None else "+" in among:
        known = known - {"-", "--", "---"}
    return np.asarray([(text.casefold() if words else text) in known for text in texts], dtype=bool)
