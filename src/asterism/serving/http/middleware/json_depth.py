"""How deep a JSON text is nested, without parsing it."""

from __future__ import annotations

import re
from typing import Final

MAX_DEPTH: Final = 32

_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_OPENING, _CLOSING, _PAIR = b"(", b")", b"()"
_ONE_KIND: Final = bytes.maketrans(b"[{]}", b"(())")
_OTHERS: Final = bytes(set(range(256)) - set(b"[{]}"))


def is_nested_deeper(text: bytes, most: int = MAX_DEPTH) -> bool:
    """Whether brackets stand more than `most` deep in each other; what is no JSON may go either way.

    A text with few brackets is counted, which is nearly free. Of others the brackets outside of strings
    are kept, and innermost pairs are taken away: as often as that works, so deep is the text.
    """
    if text.count(b"[") + text.count(b"{") <= most:
        return False
    if b"\\" in text:
        text = _ESCAPED.sub(b"", text)
    brackets = b"".join(text.split(b'"')[::2]).translate(_ONE_KIND, _OTHERS)
    for _ in range(most):
        left = brackets.replace(_PAIR, b"")
        if len(left) == len(brackets):
            break
        brackets = left
    return _PAIR in brackets or brackets.count(_OPENING) > most
