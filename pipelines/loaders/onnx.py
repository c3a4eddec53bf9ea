"""ONNX models: one or several sessions of onnxruntime. Knows nothing of what goes in or comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back


@dataclass(slots=True)
class OnnxModel:
    """Sessions by the names the card gives them, and the folder they came from."""

    sessions: dict[str, Any]
    folder: Path
    size: int


class OnnxLoader(NoAdapters):
    """Card options: `files = {name = "file.onnx"}`, `threads` (default 1). A source of one file is named "model"."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> OnnxModel:
        """One session per file; raises ModelLoadFailed for a file that is not there."""
        files = _files(spec, folder)
        sessions = {name: session(path, device, int(spec.options.get("threads", 1))) for name, path in files.items()}
        root = folder if folder.is_dir() else folder.parent
        return OnnxModel(sessions, root, sum(_stored(path) for path in files.values()))

    def measure(self, model: OnnxModel) -> int:
        """Bytes of weights, which a session holds as the files do."""
        return model.size

    def free(self, model: OnnxModel) -> None:
        model.sessions.clear()
        give_back()


def session(path: Path, device: str, threads: int, *, arena: bool = True) -> Any:
    """An InferenceSession that leaves the cores alone while it waits; without an arena, memory while it works too."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in available]
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def _files(spec: ModelSpec, folder: Path) -> dict[str, Path]:
    if folder.is_file():
        return {"model": folder}
    declared: Mapping[str, str] = spec.options.get("files", {})
    files = {name: folder / file for name, file in declared.items()}
    for path in files.values():
        if not path.is_file():
            raise ModelLoadFailed("file_missing", id=spec.id, file=path.name)
    if not files:
        raise ModelLoadFailed("option_missing", id=spec.id, option="files")
    return files


def _stored(path: Path) -> int:
    """Bytes of a model file and of the weights stored beside it."""
    beside = [path.with_name(path.name + suffix) for suffix in ("_data", ".data")]
    return sum(file.stat().st_size for file in (path, *beside) if file.is_file())
