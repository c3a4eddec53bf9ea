"""Converts a GGUF file, once, into a folder that loads in a hundredth of the time: safetensors and a tokenizer.

transformers dequantises a GGUF on every load (12 s for 135 M parameters). The conversion runs in a process of its
own: `python -m pipelines.loaders.gguf SOURCE FOLDER`. It can be killed, returns its memory, and its patching of
torch.nn stays out of the server.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.registry import OnProgress
from pipelines.core.streaming import Progress, Stop
from pipelines.loaders.hashes import verify
from pipelines.loaders.locks import locked

_FORMAT = 2  # part of the folder's name: raise it when the conversion changes
_ROOT = Path(__file__).resolve().parents[2]
_POLL = 0.1


def converted(source: Path, cache: Path, *, known: Mapping[str, str], stop: Stop, progress: OnProgress) -> Path:
    """The folder made from a GGUF file, made now if it is not there and the file has the SHA-256 `known` for it.

    Raises ModelLoadFailed, Cancelled, TimedOut.
    """
    folder = cache / _key(source)
    if folder.is_dir():
        return folder
    with locked(folder.with_suffix(".lock"), stop):
        if not folder.is_dir():
            verify(source, known, stop)
            _make(source, folder, stop, progress)
    return folder


def _key(source: Path) -> str:
    """Names this very file by what changes when it does, without reading its hundred megabytes at every start."""
    stat = source.stat()
    text = f"{_FORMAT}:{source.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _make(source: Path, folder: Path, stop: Stop, progress: OnProgress) -> None:
    """Convert into a folder beside it, then rename: the folder is whole or not there."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    progress(Progress("convert", detail=source.name))
    try:
        _convert_elsewhere(source, partial, stop)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _convert_elsewhere(source: Path, folder: Path, stop: Stop) -> None:
    command = [sys.executable, "-m", __name__, str(source), str(folder)]
    path = os.pathsep.join(part for part in (str(_ROOT), os.environ.get("PYTHONPATH", "")) if part)
    offline = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    with subprocess.Popen(
        command, env={**os.environ, **offline}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            errors = _wait(child, stop)
        finally:
            child.kill()
    if child.returncode != 0:
        raise ModelLoadFailed("convert_failed", file=source.name) from RuntimeError(errors[-2000:])


def _wait(child: subprocess.Popen[str], stop: Stop) -> str:
    while True:
        stop.check()
        try:
            return child.communicate(timeout=_POLL)[1]
        except subprocess.TimeoutExpired:
            continue


def convert(source: Path, folder: Path) -> None:
    """Write config.json, model.safetensors (float32), the tokenizer and its chat template into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    _split_digits(source, tokenizer)
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    _forget_quantization(model)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _split_digits(source: Path, tokenizer: Any) -> None:
    """Split text into words and digits as the file's "smollm" rule says, which transformers does not read."""
    from gguf import GGUFReader
    from tokenizers import pre_tokenizers

    rule = GGUFReader(source).fields.get("tokenizer.ggml.pre")
    if rule is not None and rule.contents() == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


def _forget_quantization(model: Any) -> None:
    """The weights are plain float32 now, but transformers would refuse to save them as "quantized with gguf"."""
    for name in ("quantization_method", "hf_quantizer", "is_quantized"):
        if hasattr(model, name):
            setattr(model, name, None)
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
