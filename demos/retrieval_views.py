"""What the retrieval tab shows of a search: the hits up to the cut-off and beyond, where it lies and why, how the
search was done, and who moved when the joint reader looked again. HTML only; knows no component.
"""

from __future__ import annotations

from typing import Any

from demos import cards
from demos.retrieval_pictures import Address, data_address
from demos.text import say
from pipelines.gallery import Gallery

HEADROOM = 0.2  # of the chart, for the words over a line at its top
ROW = 44  # pixels of a line in the two columns of ranks


def hits(result: Any, address: Address, lang: str) -> str:
    """The hits in order, a line where the cut-off lies; out of its order (re-ranked), what is below it is faint."""
    kept = [hit.kept for hit in result.hits]
    in_order = kept == sorted(kept, reverse=True)
    made = [_hit(place, hit, address(hit), lang) for place, hit in enumerate(result.hits, 1)]
    if in_order and result.cutoff.reason != "none" and sum(kept) < len(kept):
        key = "retrieval_cut_here" if any(kept) else "retrieval_cut_above"
        line = cards.escape(say(key, lang, value=f"{result.cutoff.value:.3f}"))
        made.insert(sum(kept), f'<li class="cut" role="separator"><span>{line}</span></li>')
    return f'<ol class="hits">{"".join(made)}</ol>'


def _hit(place: int, hit: Any, address: str, lang: str) -> str:
    name = hit.caption or say("retrieval_picture", lang, number=hit.index + 1)
    judged = "" if hit.rerank_score is None else f" → {probability(hit.rerank_score)}"
    return (
        f"<li{'' if hit.kept else ' class=below'}><figure>"
        f'<img src="{cards.escape(address)}" alt="{cards.escape(name)}" loading="lazy">'
        f"<figcaption><b>{place}</b> <span>{cards.escape(name)}</span>"
        f"<small>{hit.score:.3f}{judged}</small></figcaption></figure></li>"
    )


def probability(share: float) -> str:
    """Per cent, finer near the ends, where joint readers crowd."""
    return f"{100 * share:.{1 if 0.005 < share < 0.995 else 3}f}%"


# -- the cut-off -------------------------------------------------------------------------------------


def cutoff(result: Any, lang: str) -> str:
    """The scores as bars, best first, over the band in which the rest of the collection lies; the cut-off across."""
    end = result.cutoff
    words = f"<p>{cards.escape(reason(result, lang))}</p>"
    if end.reason == "none" or not result.hits:
        return f'<div class="cutoff">{words}</div>'
    scores = sorted((hit.score for hit in result.hits), reverse=True)
    low = min(end.mean - 2 * end.spread, end.value, scores[-1])
    high = max(scores[0], end.value)
    of = _Scale(low, high + HEADROOM * (high - low))
    bars = "".join(
        f'<i class="{"" if score >= end.value else "below"}" style="height:{of(score):.1f}%" title="{score:.3f}"></i>'
        for score in scores
    )
    band = ""
    if end.spread:
        bottom, top = of(end.mean - end.spread), of(end.mean + end.spread)
        named = cards.escape(say("retrieval_background", lang))
        band = f'<div class="band" style="bottom:{bottom:.1f}%;height:{top - bottom:.1f}%"><span>{named}</span></div>'
    line = cards.escape(say("retrieval_cut", lang, value=f"{end.value:.3f}"))
    chart = (
        f'<div class="chart" role="img" aria-label="{cards.escape(reason(result, lang))}">{band}'
        f'<div class="bars">{bars}</div>'
        f'<div class="line" style="bottom:{of(end.value):.1f}%"><span>{line}</span></div></div>'
    )
    return f'<div class="cutoff">{chart}{words}</div>'


class _Scale:
    """Scores as per cent of the chart's height."""

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.width = (high - low) or 1.0

    def __call__(self, score: float) -> float:
        return min(100.0, max(0.0, 100 * (score - self.low) / self.width))


def reason(result: Any, lang: str) -> str:
    """Why the hits end where they do, in a sentence."""
    end = result.cutoff
    key = end.reason if end.kept or end.reason == "none" else "nothing"
    return say(
        f"retrieval_cutoff_{key}",
        lang,
        kept=end.kept,
        value=f"{end.value:.3f}",
        mean=f"{end.mean:.3f}",
        spread=f"{end.spread:.3f}",
    )


def facts(result: Any, lang: str) -> str:
    """How the search was done: the index, how many vectors of what size, the milliseconds."""
    timing = result.timing
    words = say(
        "retrieval_facts",
        lang,
        backend=backend(timing.backend, lang),
        vectors=f"{timing.vectors:,}",
        dimension=result.dimension,
        milliseconds=f"{timing.search_ms:.2f}",
    )
    if timing.rerank_ms_per_pair:
        words += say("retrieval_facts_rerank", lang, milliseconds=f"{timing.rerank_ms_per_pair:.1f}")
    return cards.hint(words)


def backend(kind: str, lang: str) -> str:
    """An index's kind as people read it; one of a later day stays as it is."""
    return say(f"retrieval_backend_{kind}", lang) if kind in ("exact", "quantized") else kind


# -- who moved ---------------------------------------------------------------------------------------


def lines(result: Any, address: Address, lang: str) -> str:
    """Two columns of places, by the common space and after the joint reader, with a line from each to where it went."""
    judged = [hit for hit in result.hits if hit.rerank_score is not None]
    if not judged:
        return ""
    before = sorted(judged, key=lambda hit: hit.rank_before)
    after = {id(hit): at for at, hit in enumerate(judged)}
    height = ROW * len(judged)
    drawn = "".join(_line(at, after[id(hit)], _way(hit, after[id(hit)] + 1)) for at, hit in enumerate(before))
    addresses = {id(hit): address(hit) for hit in judged}
    left = "".join(_mover(f"{hit.rank_before}", hit, addresses[id(hit)], f"{hit.score:.3f}", lang) for hit in before)
    right = "".join(
        _mover(f"{at}", hit, addresses[id(hit)], probability(hit.rerank_score), lang, moved(hit, at, lang))
        for at, hit in enumerate(judged, 1)
    )
    heads = [cards.escape(say(f"retrieval_{key}", lang)) for key in ("common", "fusion")]
    return (
        f'<div class="movers"><h4>{heads[0]}</h4><h4>{heads[1]}</h4><ol>{left}</ol>'
        f'<svg viewBox="0 0 100 {height}" height="{height}" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
        f"<ol>{right}</ol></div>"
    )


def moved(hit: Any, place: int, lang: str) -> str:
    """How far a hit rose or sank, as a mark and in words for those who do not see it."""
    way = _way(hit, place)
    if way == "stays":
        return f'<em class="stays" title="{cards.escape(say("retrieval_stays", lang))}">=</em>'
    far = abs(hit.rank_before - place)
    words = cards.escape(say(f"retrieval_{way}", lang, far=far))
    return f'<em class="{way}" title="{words}">{"▲" if way == "rises" else "▼"}{far}</em>'


def _way(hit: Any, place: int) -> str:
    return "stays" if hit.rank_before == place else "rises" if hit.rank_before > place else "sinks"


def _mover(place: str, hit: Any, address: str, score: str, lang: str, mark: str = "") -> str:
    name = cards.escape(hit.caption or say("retrieval_picture", lang, number=hit.index + 1))
    return (
        f'<li><b>{place}</b><img src="{cards.escape(address)}" alt="" loading="lazy">'
        f'<span title="{name}">{name}</span><small>{score}</small>{mark}</li>'
    )


def _line(start: int, end: int, way: str) -> str:
    """From a row on the left to one on the right."""
    left, right = (ROW * at + ROW // 2 for at in (start, end))
    return f'<path class="{way}" d="M0 {left} C50 {left} 50 {right} 100 {right}"/>'


# -- before the first search -------------------------------------------------------------------------


def browse(gallery: Gallery, lang: str, count: int = 12) -> str:
    """A few pictures of the gallery, so that one sees what can be found."""
    step = max(1, len(gallery) // count)
    found = "".join(
        f'<li><figure><img src="{data_address(gallery.data(at))}" alt="{cards.escape(gallery.items[at].caption(lang))}"'
        f' loading="lazy"><figcaption><span>{cards.escape(gallery.items[at].caption(lang))}</span></figcaption>'
        f"</figure></li>"
        for at in range(step // 2, len(gallery), step)[:count]
    )
    words = cards.hint(say("retrieval_browse", lang, number=f"{len(gallery):,}"))
    return f'{words}<ol class="hits">{found}</ol>'
