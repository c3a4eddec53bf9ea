"""Pieces of HTML made from the catalogue and from results: escaped, in one language. Knows no component."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

from demos.replies import explain
from demos.text import say
from pipelines.core.specs import AdapterSpec, Made, ModelSpec
from pipelines.core.streaming import Progress
from pipelines.house import House
from pipelines.loaders.hub_files import cached_snapshot

HUB = "https://huggingface.co/"
MIB = 2**20


def escape(value: object) -> str:
    return html.escape(str(value))


def choice(house: House, spec: ModelSpec, lang: str) -> str:
    """How a model is named in a picker: title, tier, licence, and what keeps it from running."""
    licence = spec.license + (f" ({say('restricted', lang)})" if spec.restricted else "")
    missing = (say("not_here", lang),) if house.sources.missing(spec) else ()
    return " · ".join((spec.title[lang], *missing, say(f"tier_{spec.tier}", lang), licence))


def needs_download(house: House, spec: ModelSpec | AdapterSpec) -> bool:
    scheme, _, name = spec.source.partition(":")
    return scheme == "hf" and cached_snapshot(house.settings.cache, name, spec) is None


def notice(house: House, spec: ModelSpec, lang: str) -> str:
    """What a visitor should know before running this model: what is missing and what to do, or the download."""
    if missing := house.sources.missing(spec):
        words = [explain(missing, lang)]
        if missing.code == "offline_not_cached":
            words.append(say("missing_help", lang))
        others = [s.title[lang] for s in house.catalog.models(spec.task) if house.sources.missing(s) is None]
        if others:
            words.append(say("missing_others", lang, known=", ".join(others)))
        return f'<div class="notice warn" role="note">{"".join(f"<p>{escape(text)}</p>" for text in words)}</div>'
    if needs_download(house, spec):
        text = say("download_first", lang, size=size(spec.size))
        return f'<div class="notice" role="note"><p>{escape(text)}</p></div>'
    return ""


def model_card(house: House, spec: ModelSpec, lang: str) -> str:
    """The catalogue's card of a model, as a definition list."""
    return _list(
        [
            (say("card_source", lang), _link(spec)),
            (say("card_revision", lang), escape(spec.revision) if spec.revision else say("card_unpinned", lang)),
            (say("card_size", lang), f"{size(spec.size)} · {spec.parameters_m:g} M"),
            (say("card_license", lang), _license(spec, lang)),
            (say("card_languages", lang), escape(", ".join(spec.languages))),
            *_common(spec, lang),
            (say("card_adapters", lang), escape(", ".join(a.title[lang] for a in house.catalog.adapters(spec.id)))),
        ]
    )


def adapter_card(spec: AdapterSpec, lang: str) -> str:
    """The catalogue's card of an adapter."""
    facts = [
        (say("card_source", lang), _link(spec)),
        (say("card_license", lang), _license(spec, lang)),
        (say("card_trigger", lang), escape(spec.trigger)),
        *_common(spec, lang),
    ]
    return f"<h3>{escape(spec.title[lang])}</h3>{_list(facts)}"


def _common(spec: ModelSpec | AdapterSpec, lang: str) -> Iterable[tuple[str, str]]:
    if spec.scores:
        figures = " · ".join(f"{escape(name)} {value:g}" for name, value in spec.scores.items())
        yield say("card_scores", lang), f"{figures}<br><code>{escape(spec.scores_command)}</code>"
    if spec.note:
        yield say("card_note", lang), escape(spec.note[lang])


def _license(spec: ModelSpec | AdapterSpec, lang: str) -> str:
    return escape(spec.license) + (f" — {say('license_restricted', lang)}" if spec.restricted else "")


def _link(spec: ModelSpec | AdapterSpec) -> str:
    scheme, _, name = spec.source.partition(":")
    if scheme != "hf":
        return f"<code>{escape(name)}</code>"
    return f'<a href="{HUB}{escape(name)}" rel="noreferrer" target="_blank">{escape(name)}</a>'


def _list(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in facts if value)
    return f'<dl class="card">{rows}</dl>'


def made_line(house: House, made: Made, lang: str, seconds: float) -> str:
    """The line under a result: what made it, on what, in what time (all of it, waiting included)."""
    parts = [f"<b>{escape(house.catalog.model(made.model).title[lang])}</b>", escape(say(f"tier_{made.tier}", lang))]
    parts += [f"{escape(use.id)} × {use.weight:g}" for use in made.adapters]
    if made.seed is not None:
        parts.append(escape(say("made_seed", lang, seed=made.seed)))
    parts.append(escape(made.device))
    parts.append(escape(say("made_seconds", lang, seconds=f"{made.seconds:.2f}", total=f"{seconds:.2f}")))
    parts.append(escape(say("made_cold" if made.cold else "made_warm", lang)))
    return f'<p class="made">{" · ".join(parts)}</p>'


def status(progress: Progress, lang: str) -> str:
    """Where a job is, in words and as a bar."""
    words = say(f"stage_{progress.stage}", lang)
    if progress.stage == "queue":
        words = f"{words} · {say('place', lang, place=int(progress.done))}"
    elif progress.stage == "download" and progress.total:
        words = f"{words} · {size(progress.done)} / {size(progress.total)}"
    elif progress.total:
        words = f"{words} · {progress.done:g} / {progress.total:g}"
    share = f' value="{progress.done:g}" max="{progress.total:g}"' if progress.total else ""
    label = escape(say("progress", lang))
    return (
        f'<div class="status busy"><span>{escape(words)}</span><progress aria-label="{label}"{share}></progress></div>'
    )


def said(words: str, kind: str = "") -> str:
    """The status line with plain words; `kind` is "", "warn" or "error"."""
    lines = "".join(f"<span>{escape(line)}</span>" for line in words.splitlines())
    return f'<div class="status {kind}">{lines}</div>'


def hint(words: str) -> str:
    """A quiet line."""
    return f'<p class="hint">{escape(words)}</p>'


def warning(words: str) -> str:
    """A framed line one should not miss."""
    return f'<div class="notice warn" role="note"><p>{escape(words)}</p></div>'


def both(key: str) -> str:
    """A message in both languages, of which the style sheet shows one."""
    return "".join(f'<span data-lang="{lang}">{escape(say(key, lang))}</span>' for lang in ("en", "zh"))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table that scrolls by itself on a phone; `rows` are HTML, `heads` are not."""
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def shaded(tokens: Iterable[tuple[str, float]]) -> str:
    """(text, natural log-probability) pairs as running text, each shaded by how unlikely it was; "" for none."""
    spans = "".join(
        f'<span class="token" style="--doubt:{1 - math.exp(logprob):.2f}" title="{percent(math.exp(logprob))}">'
        f"{escape(text)}</span>"
        for text, logprob in tokens
    )
    return f'<p class="tokens">{spans}</p>' if spans else ""


def percent(probability: float) -> str:
    return f"{100 * probability:.1f}%"


def size(number: float) -> str:
    """Bytes in MB or GB, as people write them."""
    return f"{number / MIB / 1024:.1f} GB" if number >= 1024 * MIB else f"{number / MIB:.0f} MB"
