"""Adapters a visitor brings: checked, copied under their hash into the cache, and known to that visitor alone.

Knows files and the catalogue, no framework. Shapes are compared with the base when the adapter is first used.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.core.errors import AdapterMismatch, InvalidInput, TooMany
from pipelines.core.registry import OnProgress
from pipelines.core.specs import AdapterSpec
from pipelines.core.streaming import Progress, Stop
from pipelines.house import LOCAL, House
from pipelines.loaders.adapter_files import PICKLES, WEIGHTS, open_adapter, weights_file
from pipelines.loaders.locks import locked
from pipelines.loaders.lora_settings import CONFIG

MAX_UPLOAD = 64 * 2**20  # bytes of one adapter
MAX_ADAPTERS = 8  # of one visitor
KEPT = 3600.0  # seconds an upload lives that is not in memory
STORED = "adapter_model.safetensors"

_REPO = re.compile(r"[A-Za-z0-9][\w.\-]{0,95}/[A-Za-z0-9][\w.\-]{0,95}", re.ASCII)


def accept_adapter(house: House, base: str, files: Sequence[Path], visitor: str) -> AdapterSpec:
    """Take uploaded files (one .safetensors, and adapter_config.json) as an adapter of `base` for this visitor.

    Raises UnknownModel, InvalidInput, AdapterMismatch, TooMany; then nothing is kept. The same files twice are one.
    """
    weights, config = _sorted_out(files, needs_config=house.catalog.model(base).loader != "diffusers")
    size = sum(path.stat().st_size for path in (weights, config) if path)
    if size > MAX_UPLOAD:
        raise InvalidInput("upload_too_large", size_mb=round(size / 2**20, 1), limit_mb=MAX_UPLOAD // 2**20)
    root = house.settings.cache / "uploads"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as made:
        copy = Path(made)
        hashes = {STORED: _copy(weights, copy / STORED)} | ({CONFIG: _copy(config, copy / CONFIG)} if config else {})
        key = hashlib.sha256("\n".join([*hashes.values(), base, visitor]).encode()).hexdigest()
        folder, title = root / key, _title(weights)
        spec = AdapterSpec(
            id=f"upload-{key[:12]}",
            base=base,
            source=f"dir:{folder.resolve()}",
            title={"en": title, "zh": title},
            license="unknown",
            size_mb=size / 2**20,
            owner=visitor,
            sha256=hashes,
        )
        open_adapter(copy, spec)
        with locked(root / ".lock", Stop()):
            return _keep(house, spec, copy, folder)


def adapter_from_folder(house: House, base: str, folder: Path, visitor: str = LOCAL) -> AdapterSpec:
    """The adapter in a folder of this machine, which only the person at its command line may name."""
    if visitor != LOCAL:
        raise InvalidInput("folder_local_only")
    if not folder.is_dir():
        raise InvalidInput("upload_incomplete", name=WEIGHTS)
    files = [weights_file(folder, folder.name)]
    return accept_adapter(house, base, [*files, *(path for path in [folder / CONFIG] if path.is_file())], visitor)


def adapter_from_hub(
    house: House,
    base: str,
    repo: str,
    visitor: str,
    *,
    stop: Stop | None = None,
    progress: OnProgress | None = None,
) -> AdapterSpec:
    """Fetch "organisation/name" from the model hub and take it like an upload; raises what fetching raises, too."""
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise InvalidInput("bad_repo_id", name=repo[:80])
    house.catalog.model(base)
    _check_room(house, visitor)
    wanted = AdapterSpec(
        id=repo, base=base, source=f"hf:{repo}", title={}, license="unknown", size_mb=MAX_UPLOAD / 2**20, owner=visitor
    )
    folder = house.sources.fetch(wanted, stop=Stop() if stop is None else stop, progress=progress or _silent)
    files = [weights_file(folder, repo), *(path for path in [folder / CONFIG] if path.is_file())]
    return accept_adapter(house, base, files, visitor)


def forget_adapter(house: House, id: str, visitor: str) -> None:
    """Drop an adapter its owner no longer wants from memory, catalogue and disk. Raises InvalidInput while in use."""
    spec = house.catalog.adapter(id, visitor)
    if spec.owner != visitor:
        raise InvalidInput("not_yours", id=id)
    if any(view.id == id for view in house.registry.status()):
        house.registry.unload(id)
    house.catalog.remove_adapter(id)
    shutil.rmtree(Path(spec.source.removeprefix("dir:")), ignore_errors=True)


def forget_old(house: House, seconds: float = KEPT) -> int:
    """Drop uploads older than that which are not in memory, those of earlier processes too; how many went."""
    root = house.settings.cache / "uploads"
    known = {adapter.source: adapter.id for adapter in house.catalog.uploads()}
    registry = house.registry_if_made
    resident = {view.id for view in registry.status()} if registry else set()
    limit, gone = time.time() - seconds, 0
    for folder in [path for path in root.glob("*") if path.is_dir() and path.stat().st_mtime < limit]:
        id = known.get(f"dir:{folder.resolve()}", "")
        if id not in resident:
            house.catalog.remove_adapter(id)
            shutil.rmtree(folder, ignore_errors=True)
            gone += 1
    return gone


def _sorted_out(files: Sequence[Path], *, needs_config: bool) -> tuple[Path, Path | None]:
    """The weights and the configuration among the files; raises for anything else, and for what is missing."""
    weights = [path for path in files if path.suffix == WEIGHTS]
    configs = [path for path in files if path.name == CONFIG]
    if any(path.suffix in PICKLES for path in files):
        raise AdapterMismatch("adapter_pickle", id="upload")
    others = [path for path in files if path not in weights and path not in configs]
    if extra := [*others, *weights[1:], *configs[1:]]:
        raise InvalidInput("upload_files", name=extra[0].name[:80])
    if not weights or (needs_config and not configs):
        raise InvalidInput("upload_incomplete", name=CONFIG if weights else WEIGHTS)
    return weights[0], configs[0] if configs else None


def _copy(source: Path, target: Path) -> str:
    """Copy at most MAX_UPLOAD bytes; the SHA-256 of what was copied."""
    digest, left = hashlib.sha256(), MAX_UPLOAD
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(2**20):
            left -= len(chunk)
            if left < 0:
                raise InvalidInput("upload_too_large", size_mb=MAX_UPLOAD // 2**20, limit_mb=MAX_UPLOAD // 2**20)
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _keep(house: House, spec: AdapterSpec, copy: Path, folder: Path) -> AdapterSpec:
    known = {adapter.id: adapter for adapter in house.catalog.adapters(visitor=spec.owner)}
    if spec.id in known:
        return known[spec.id]
    _check_room(house, spec.owner)
    if not folder.exists():
        copy.rename(folder)
        copy.mkdir()  # for the one who removes it
    house.registry.add_adapter(spec)
    return spec


def _check_room(house: House, visitor: str) -> None:
    if sum(adapter.owner == visitor for adapter in house.catalog.adapters(visitor=visitor)) >= MAX_ADAPTERS:
        raise TooMany("too_many_uploads", limit=MAX_ADAPTERS)


def _title(weights: Path) -> str:
    """A short name from the file's, plain characters only."""
    stem = "adapter" if weights.name == STORED else weights.stem
    return re.sub(r"[^\w .\-]", "", stem)[:40].strip() or "adapter"


def _silent(_: Progress) -> None:
    return None
