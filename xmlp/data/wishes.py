"""What users know better about columns, in one text: ``age:number,"Smith, J.":category,id:drop``."""

from collections.abc import Iterator

from xmlp.data.kinds import WISHES
from xmlp.errors import unknown

_ALIASES = {
    "category": ("categorical", "cat", "class", "factor", "string", "str", "text", "bool", "boolean", "object"),
    "number": ("numeric", "numerical", "num", "float", "int", "integer", "real", "continuous"),
    "date": ("datetime", "time", "timestamp"),
    "drop": ("dropped", "ignore", "ignored", "skip", "remove", "exclude", "none", "no", "delete"),
}


def parse_wishes(text: str) -> dict[str, str]:
    r"""Read what columns are to be: names and kinds with a colon between, separated by commas.

    The last colon separates, so that a name may have others. A name with commas or quotes, or a colon and
    nothing else to tell, stands in ``"``, and ``""`` within is one of them.

    Parameters
    ----------
    text : str
        Of one or more columns.

    Returns
    -------
    dict of str to str
        The kind by name.

    Raises
    ------
    ValueError
        There is no kind, an unknown kind, or two of them for one column; a quote stays open.

    Examples
    --------
    >>> parse_wishes('age:number, "a,b":drop,Unnamed: 0:drop')
    {'age': 'number', 'a,b': 'drop', 'Unnamed: 0': 'drop'}
    """
    found: dict[str, str] = {}
    for part in _parts(text):
        name, kind = _pair(part)
        if found.setdefault(name, kind) != kind:
            raise ValueError(f"column {name!r} is to be {found[name]} and {kind}; say one of them.")
    return found


def parse_names(text: str) -> list[str]:
    r"""Read names of columns, separated by commas; one with commas or quotes stands in ``"``, as in `parse_wishes`.

    >>> parse_names('id, "x,y","a ""b"" c"')
    ['id', 'x,y', 'a "b" c']
    """
    return [_unquoted(part.strip()) for part in _parts(text)]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if len(name) > 1 and name[0] == name[-1] == '"' else name


def _parts(text: str) -> Iterator[str]:
    """Split at the commas that stand outside of quotes."""
    part, quoted = "", False
    for letter in text:
        if letter == '"' and (quoted or not part.strip() or part.rstrip().endswith('"')):
            quoted = not quoted
        if letter == "," and not quoted:
            yield part
            part = ""
        else:
            part += letter
    if quoted:
        raise ValueError(f'a quote (") stays open in {text!r}.')
    if part.strip():
        yield part


def _pair(part: str) -> tuple[str, str]:
    name, colon, kind = part.strip().rpartition(":")
    name, kind = _unquoted(name.strip()), kind.strip()
    if not colon or not name:
        raise ValueError(f"expected NAME:KIND, as in age:number,id:drop, got {part.strip()!r}.")
    kind = next((known for known, aliases in _ALIASES.items() if kind.lower() in aliases), kind.lower())
    if kind not in WISHES:
        raise ValueError(unknown("kind of a column", kind, WISHES))
    return name, kind


def wish(name: str, kind: str) -> str:
    """Write down one of them, so that `parse_wishes` reads it.

    >>> print(wish('a "b", c', "drop"))
    "a ""b"", c":drop
    """
    if set(name) & set(',"') or name != name.strip():
        name = '"' + name.replace('"', '""') + '"'
    return f"{name}:{kind}"
