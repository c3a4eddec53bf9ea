"""Every word a person reads, in English and Chinese, from locales/*.toml. Knows no component; gradio comes late.

The keys of a tab's own file carry its name as prefix: `title` in speech.toml is `speech_title`; those of the other
files are used as they are.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from demos import TABS
from demos.visitor import header, language, language_of, scope_of

if TYPE_CHECKING:
    import gradio as gr

LOCALES = Path(__file__).parent / "locales"

Message = Mapping[str, str]


@cache
def messages() -> Mapping[str, Message]:
    """key -> {"en": …, "zh": …} of all locale files; raises ValueError for a key in two of them."""
    found: dict[str, Message] = {}
    for path in sorted(LOCALES.glob("*.toml")):
        prefix = f"{path.stem}_" if path.stem in TABS else ""
        for name, message in tomllib.loads(path.read_text(encoding="utf-8")).items():
            key = prefix + name
            if key in found:
                raise ValueError(f"locales/{path.name}: {name}: already in another file")
            found[key] = message
    return MappingProxyType(found)


class _Absent(dict[str, Any]):
    """A message is shown even when a placeholder was not given."""

    def __missing__(self, key: str) -> str:
        return "–"


def say(key: str, lang: str, **params: Any) -> str:
    """The message in "en" or "zh" with its placeholders filled; an unknown key is shown as it is."""
    message = messages().get(key)
    if message is None:
        return key
    return message[lang].format_map(_Absent(params))


def label(key: str) -> Any:
    """A label that the browser translates; for composed text use say()."""
    import gradio as gr

    if key not in messages():
        raise KeyError(key)
    return gr.I18n()(key)


def i18n() -> gr.I18n:
    """All messages for the browser. Traditional Chinese readers are shown the simplified text."""
    import gradio as gr

    english = {key: message["en"] for key, message in messages().items()}
    chinese = {key: message["zh"] for key, message in messages().items()}
    return gr.I18n(en=english, **{"zh-CN": chinese, "zh-TW": chinese})


def lang_of(request: Any) -> str:
    """ "en" or "zh": the page's ?lang= if it has one (a frame may keep no cookies), else as for every door."""
    scope = scope_of(request)
    if scope is None:
        return "en"
    asked = parse_qs(urlsplit(header(scope, "referer")).query).get("lang")
    return language(asked[0]) if asked else language_of(request)
