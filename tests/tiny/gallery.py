"""A gallery of a few pictures of noise, laid out as the one that ships."""

from __future__ import annotations

import io
import json
from pathlib import Path

from pipelines.gallery import LISTING, Gallery
from tests.tiny import serving

CAPTIONS = (("red cat", "红猫"), ("dog", "狗"), ("Red cat", "红猫"), ("green tree", None), ("blue boat", "蓝船"))


def gallery(folder: Path, count: int = 12) -> Gallery:
    """`count` pictures (serving.picture of their numbers), captioned in turn; those from the sixth on are unseen."""
    folder.mkdir(parents=True, exist_ok=True)
    shard, lines = bytearray(), []
    for number in range(count):
        file = io.BytesIO()
        serving.picture(number).save(file, "WEBP", lossless=True)
        en, zh = CAPTIONS[number % len(CAPTIONS)]
        place = {"shard": "shard.tar", "offset": len(shard), "size": file.tell()}
        words = {"caption_en": en, "caption_zh": zh, "keywords_en": [], "keywords_zh": [], "concept": en}
        about = {"category": "tests", "style": "noise", "source": "made here", "licence": "MIT", "author": "nobody"}
        lines.append(json.dumps({"id": f"noise/{number}", **place, **words, **about, "unseen": number > 5}))
        shard += file.getvalue()
    (folder / "shard.tar").write_bytes(shard)
    (folder / LISTING).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Gallery.read(folder, folder / "cache")
