"""A registry over cards of the real catalogue whose repositories a loopback hub serves as tiny models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines import house
from pipelines.core.catalog import Catalog
from pipelines.core.registry import Registry
from pipelines.core.settings import Settings
from pipelines.core.specs import ModelSpec
from pipelines.loaders.sources import Sources
from tests.hub import LoopbackHub

CATALOG = Catalog.read(house.CATALOG)


def kind(spec: ModelSpec) -> str:
    """What sets a card's tiny model apart: its class, or which of the three open_clip designs it is."""
    if spec.loader == "open_clip" and spec.source.startswith("dir:"):
        return "picto"
    return spec.options.get("cls") or ("coca" if spec.task == "captioning" else "open_clip")


def one_of_each(task: str) -> list[ModelSpec]:
    """A card for each distinct loader and class of a task: the first one of each."""
    specs = CATALOG.models(task)
    return list({(spec.loader, kind(spec)): spec for spec in reversed(specs)}.values())[::-1]


def registry(
    hub: LoopbackHub, folder: Path, builders: Mapping[str, Callable[[Path], None]], *specs: ModelSpec
) -> Registry:
    """The real Sources and loaders; the cards' own repository names, tiny files (of other commits) behind them."""
    serve(hub, folder, builders, *specs)
    settings = Settings(root=folder, cache=folder / "cache", hub_endpoint=hub.url)
    return Registry(unpinned(), house.loader, Sources(settings).fetch, budget=2**40)


def serve(hub: LoopbackHub, folder: Path, builders: Mapping[str, Callable[[Path], None]], *specs: ModelSpec) -> None:
    """Put a tiny model behind each card's repository name, its files in folder/repositories/<id>; or where in the
    folder a card of ours says that it lies.
    """
    for spec in specs:
        scheme, _, name = spec.source.partition(":")
        files = folder / name if scheme == "dir" else folder / "repositories" / spec.id
        builders[kind(spec)](files)
        if scheme == "hf":
            hub.add(name, files)


def unpinned() -> Catalog:
    """The catalogue without commits and hashes: the tiny files are no commit of the real repositories."""
    cards = [replace(spec, revision="", sha256={}) for spec in CATALOG.models()]
    return Catalog(cards, CATALOG.adapters())


def picture(seed: int) -> Image.Image:
    """A picture of noise in a colour of its own, 48 x 40 pixels; the same for the same seed."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (40, 48, 3)) * random.random(3)
    return Image.fromarray(pixels.astype(np.uint8))
