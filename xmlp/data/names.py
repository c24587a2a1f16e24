"""What the name of a column tells of it: an identifier, a code, an index."""

import re

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_IDENTIFIERS = frozenset(
    {"id", "ids", "uuid", "guid", "identifier", "rowid", "rownames", "rownum", "rownumber", "idx", "pk", "sno", "oid"}
)
_CODES = frozenset(
    {
        "zip",
        "zipcode",
        "postcode",
        "postal",
        "plz",
        "phone",
        "telephone",
        "mobile",
        "fax",
        "ssn",
        "ean",
        "isbn",
        "barcode",
    }
)
_OWNERS = (
    "account|application|applicant|article|booking|car|case|claim|client|customer|cust|device|employee|emp|event|"
    "flight|house|image|invoice|item|listing|loan|member|movie|object|order|passenger|patient|person|policy|product|"
    "property|record|row|sample|serial|session|student|subject|ticket|trans|transaction|trip|user|vehicle"
)
_OWNED = re.compile(rf"(?:{_OWNERS})_?(?:id|no|nr|number|code|key)", re.IGNORECASE)
UNNAMED = re.compile(r"|unnamed: [0-9]+|index|level_0|rownames|row\.names", re.IGNORECASE)


def is_identifier(name: str) -> bool:
    """Whether a name is that of an identifier.

    >>> [is_identifier(name) for name in ("PassengerId", "customer_id", "id", "humid", "userid", "Unnamed: 0", "paid")]
    [True, True, True, False, True, True, False]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    ends = {words[0], words[-1]} if words else {""}
    return bool(ends & _IDENTIFIERS) or any(f.fullmatch(name) is not None for f in (_OWNED, UNNAMED))


def is_code(name: str) -> bool:
    """Whether a name is that of a code, whose numbers measure nothing.

    >>> is_code("ZipCode"), is_code("code")
    (True, False)
    """
    return bool(_CODES & {word.lower() for word in _WORDS.findall(name)})
