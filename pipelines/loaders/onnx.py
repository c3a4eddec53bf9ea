"""ONNX models: one or several sessions of onnxruntime. Knows nothing of what goes in or comes out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Stop
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back

_WATCHED = 0.1  # seconds the watch of a run outlives it at most


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


def session(path: Path, device: str, threads: int, *, arena: bool = True, tap: str = "") -> Any:
    """An InferenceSession that leaves the cores alone while it waits; without an arena, memory while it works too.

    `tap` names a tensor inside the network that is to be given as one more output, the last.
    """
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
    network = path.read_bytes() + _one_more_output(tap) if tap else str(path)
    return onnxruntime.InferenceSession(network, options, providers=providers)


def run(session: Any, inputs: Mapping[str, Any], stop: Stop) -> list[Any]:
    """All outputs of a session; a stop ends it between two of its operators and raises Cancelled or TimedOut."""
    import onnxruntime

    options, done = onnxruntime.RunOptions(), threading.Event()

    def watch() -> None:
        while not done.is_set():
            if stop.wait(_WATCHED):
                options.terminate = True
                return

    threading.Thread(target=watch, name="onnx-stop", daemon=True).start()
    try:
        return session.run(None, inputs, options)  # type: ignore[no-any-return]
    except (RuntimeError, *_failures(onnxruntime)):
        stop.check()
        raise
    finally:
        done.set()


def _failures(onnxruntime: Any) -> tuple[type[Exception], ...]:
    states = onnxruntime.capi.onnxruntime_pybind11_state
    return (states.Fail, states.RuntimeException)


def _one_more_output(name: str) -> bytes:
    """ModelProto{graph {output {name}}}, as bytes: parts of a message written one after the other are read as one."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    return field(7, field(12, field(1, name.encode())))


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
