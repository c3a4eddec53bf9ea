"""Where the page gets a found picture from: an address that carries it, so that nobody else can fetch it.

Pictures of the gallery and of collections are small and stored as WebP; those sent along lie in Gradio's folder.
"""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.gallery import Gallery

Address = Callable[[Any], str]  # a hit -> the address of its picture


def shipped(hit: Any) -> str:
    """The address of a picture of the gallery that ships; `hit.index` is its number."""
    return data_address(Gallery.shipped().data(hit.index))


def file_address(path: str | Path) -> str:
    """The address of an upload."""
    return f"gradio_api/file={quote(str(path))}"


def owned(collection: Any) -> Address:
    """Addresses of a visitor's own pictures; only the page they are written into has them."""
    return lambda hit: picture_address(collection.picture(int(hit.id)))


def picture_address(picture: Any) -> str:
    """A PIL picture as an address."""
    out = io.BytesIO()
    picture.save(out, format="WEBP", quality=80)
    return data_address(out.getvalue())


def data_address(webp: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(webp).decode()}"


def files_of(ids: Sequence[str], folder: Path) -> list[str]:
    """Pictures of the gallery as files below `folder`, for components that take only files."""
    gallery, found = Gallery.shipped(), []
    numbers = {item.id: at for at, item in enumerate(gallery.items)}
    for id in ids:
        if id in numbers:
            path = folder / "gallery" / gallery.digest[:16] / f"{id.replace('/', '_')}.webp"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(gallery.data(numbers[id]))
            found.append(str(path))
    return found
