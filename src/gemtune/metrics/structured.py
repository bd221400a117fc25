"""Scores of a reply that should be structured data."""

import json


def json_valid(text: str) -> bool:
    """Whether the text is one JSON value as in RFC 8259, with nothing around it.

    >>> json_valid('{"total": 12.5}'), json_valid('```json\\n{}\\n```'), json_valid('{"total": NaN}')
    (True, False, False)
    """
    try:  # numbers stay text: Python refuses an integer of over 4,300 digits, which JSON allows
        json.loads(text, parse_constant=_no_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
