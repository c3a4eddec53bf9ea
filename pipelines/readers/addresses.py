"""E-mail addresses, web addresses, handles and file names, said sign by sign in either language."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOP = "com|org|net|edu|gov|io|cn|ai|app|dev|uk|de|fr|jp|info|me|tv|co|eu|us"
EMAIL = r"[A-Za-z0-9][A-Za-z0-9._+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
WEB = (
    r"(?:https?://|ftp://|www\.)[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]+)?(?:/[A-Za-z0-9._~/?#&=%+@-]*[A-Za-z0-9/])?"
    rf"|(?<![\w@.-])[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*\.(?:{_TOP})(?![\w-])"
    r"(?:/[A-Za-z0-9._~/?#&=%+-]*[A-Za-z0-9/])?"
)
_ENDING = "py|txt|pdf|docx?|xlsx?|jpe?g|png|gif|csv|json|zip|exe|wav"
FILE = rf"(?<![\w.])[A-Za-z0-9_-]*[A-Za-z][A-Za-z0-9_-]*\.(?:{_ENDING})\b"

_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]|[^A-Za-z0-9]")
ENGLISH = {
    ".": "dot", "@": "at", "/": "slash", "-": "dash", "_": "underscore", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "+": "plus", "~": "tilde",
}  # fmt: skip
CHINESE = {
    ".": "点", "@": "艾特", "/": "斜杠", "-": "杠", "_": "下划线", ":": "冒号", "?": "问号",
    "=": "等于", "&": "和", "#": "井号", "%": "百分号", "+": "加", "~": "波浪号",
}  # fmt: skip


def say(address: str, signs: dict[str, str], digit: Callable[[str], str]) -> str:
    """Words and signs with spaces between, without the protocol; letters that are no word by their names."""
    address = re.sub(r"^[a-z]+://", "", address).rstrip("/")
    return " ".join(
        signs.get(part) or (digit(part) if part.isdigit() else _word(part)) for part in _PARTS.findall(address)
    )


def _word(letters: str) -> str:
    spelt = len(letters) < 2 or letters.isupper() or not re.search("[aeiouyAEIOUY]", letters)
    return " ".join(letters.upper()) if spelt else letters
