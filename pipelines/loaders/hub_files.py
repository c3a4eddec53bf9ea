"""Which files of a model repository are wanted, and where they lie on this disk. Never touches the network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import AdapterSpec, ModelSpec

WEIGHTS = ".safetensors"
ADAPTER = "adapter_model.safetensors"
PLAIN = (".json", ".txt", ".model", ".tiktoken", ".jinja")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
_VARIANT = re.compile(r"^(?P<stem>.+?)\.(?P<variant>fp16|bf16|fp32|fp8|int8|non_ema|ema)(?=[.-])(?P<rest>.*)$")
_ROOT_MODEL = re.compile(r"^model(-\d+-of-\d+)?\.safetensors$")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a listing. `sha256` where it is stored as LFS; `blob` is git's SHA-1 of the object."""

    path: str
    size: int
    blob: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Folders:
    """Where a repository lies: `snapshots/<commit>` as the Hub's own cache has it, unfinished files in `partial`."""

    root: Path

    @classmethod
    def of(cls, cache: Path, repo: str) -> Folders:
        return cls(cache / "hub" / ("models--" + repo.replace("/", "--")))

    def snapshot(self, commit: str) -> Path:
        return self.root / "snapshots" / commit

    def partial(self, file: RemoteFile) -> Path:
        return self.root / "partial" / (file.sha256 or file.blob)

    def commit(self, revision: str) -> str:
        """The commit a revision was when it was fetched, or "": what was fetched once stays what it is."""
        if re.fullmatch(r"[0-9a-f]{40}", revision):
            return revision
        try:
            return (self.root / "refs" / (revision or "main")).read_text(encoding="ascii")
        except OSError:
            return ""

    def remember(self, revision: str, commit: str, files: Iterable[RemoteFile]) -> None:
        """Keep a commit's listing, by which a later, offline start knows whether everything is there."""
        _write(self.root / "listings" / f"{commit}.json", json.dumps([asdict(file) for file in files]))
        if revision != commit:
            _write(self.root / "refs" / (revision or "main"), commit)

    def listing(self, commit: str) -> tuple[RemoteFile, ...]:
        try:
            entries = json.loads((self.root / "listings" / f"{commit}.json").read_text(encoding="utf-8"))
        except OSError:
            return ()
        return tuple(RemoteFile(**entry) for entry in entries)

    def lacking(self, commit: str, files: Iterable[RemoteFile]) -> list[RemoteFile]:
        """Those files not yet in the snapshot. A file is moved in only when whole and verified."""
        folder = self.snapshot(commit)
        return [file for file in files if not _has_size(folder / file.path, file.size)]


def cached_snapshot(cache: Path, repo: str, spec: ModelSpec | AdapterSpec) -> Path | None:
    """The folder with every file the card needs, if it was fetched before; no network."""
    folders = Folders.of(cache, repo)
    commit = folders.commit(spec.revision)
    listing = folders.listing(commit) if commit else ()
    if not listing or folders.lacking(commit, wanted(listing, spec, repo)):
        return None
    return folders.snapshot(commit)


def wanted(listing: Iterable[RemoteFile], spec: ModelSpec | AdapterSpec, repo: str) -> list[RemoteFile]:
    """The files to fetch: weights as safetensors (or the ONNX files the card names), configuration and vocabulary.

    Raises ModelLoadFailed "pickle_only" where weights exist only as pickles, "no_weights" where there are none.
    """
    files = [file for file in listing if _is_safe(file.path)]
    weights = _weights(files, spec)
    if not weights:
        pickled = [file.path for file in files if file.path.endswith(PICKLES)]
        raise ModelLoadFailed("pickle_only" if pickled else "no_weights", repo=repo)
    folders = {"", *(_folder(file) for file in weights)}
    everywhere = _is_diffusers(files)  # schedulers and tokenizers have folders of their own
    plain = [f for f in files if f.path.endswith(PLAIN) and (everywhere or _folder(f) in folders)]
    return [*plain, *weights]


def _weights(files: list[RemoteFile], spec: ModelSpec | AdapterSpec) -> list[RemoteFile]:
    tensors = [file for file in files if file.path.endswith(WEIGHTS)]
    if isinstance(spec, AdapterSpec):
        tensors = [file for file in tensors if not _folder(file)]
        return [file for file in tensors if file.path == ADAPTER] or tensors
    options, loader = spec.options, spec.loader
    if loader == "onnx":
        named = options.get("files", {}).values()
        stored = {name for file in named for name in (file, file + "_data", file + ".data")}
        return [file for file in files if file.path in stored]
    if loader == "open_clip":  # its repositories often hold a second copy, in transformers' layout
        by_name = {file.path: file for file in tensors}
        names = (str(options.get("weights", "")), *OPEN_CLIP_WEIGHTS)
        return [by_name[name] for name in names if name in by_name][:1]
    if _is_diffusers(files):  # its parts are in folders; beside them lie single-file copies of the whole
        tensors = [file for file in tensors if _folder(file)]
    elif any(_ROOT_MODEL.match(file.path) for file in tensors):
        tensors = [file for file in tensors if _ROOT_MODEL.match(file.path)]
    return _of_variant(tensors, str(options.get("variant", "")))


def _of_variant(files: list[RemoteFile], variant: str) -> list[RemoteFile]:
    """Of several copies of the same weights keep one: the variant asked for where it exists, else the plain one."""
    chosen: dict[str, RemoteFile] = {}
    for file in files:
        match = _VARIANT.match(file.path)
        if match is None:
            chosen.setdefault(file.path, file)
        elif match["variant"] == variant:
            chosen[match["stem"] + match["rest"]] = file
    return list(chosen.values())


def _is_diffusers(files: list[RemoteFile]) -> bool:
    return any(file.path == "model_index.json" for file in files)


def _folder(file: RemoteFile) -> str:
    return file.path.rpartition("/")[0]


def _is_safe(path: str) -> bool:
    """A plain relative path: no parent folders, no hidden parts, nothing absolute, no drive."""
    parts = path.split("/")
    return not any(part in ("", "..") or part.startswith(".") or "\\" in part or ":" in part for part in parts)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
