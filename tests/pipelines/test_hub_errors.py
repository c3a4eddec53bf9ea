"""Whatever goes wrong with a model hub has a name of its own, and is said soon."""

from __future__ import annotations

import errno
import shutil
import socket
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import DemoError, Offline
from pipelines.core.settings import Settings
from pipelines.core.streaming import Stop
from pipelines.loaders.hub import Hub, Limits
from pipelines.loaders.sources import Sources
from tests.hub import LoopbackHub
from tests.pipelines.test_sources import card

HASTY = Limits(connect=1.0, stall=0.5, floor=64 * 1024, total=3.0, reserve=0)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(hub: LoopbackHub, tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 800)
    hub.add("org/toy", folder)
    return folder


def failure(hub: LoopbackHub, tmp_path: Path, limits: Limits = HASTY, url: str = "") -> DemoError:
    client = Hub(url or hub.url, tmp_path / "cache", limits)
    started = time.monotonic()
    with pytest.raises(DemoError) as error:
        client.fetch("org/toy", card(), stop=Stop(), progress=lambda _: None)
    assert time.monotonic() - started < 5
    return error.value


STATUSES = [
    (401, "", "hub_unauthorized"),
    (401, "RepoNotFound", "hub_not_found"),
    (401, "GatedRepo", "hub_gated"),
    (403, "GatedRepo", "hub_gated"),
    (404, "", "hub_not_found"),
    (429, "", "hub_rate_limited"),
    (500, "", "hub_failed"),
    (503, "", "hub_failed"),
]


@pytest.mark.parametrize("where", ["api", "model.safetensors"])
@pytest.mark.parametrize(("status", "error_code", "code"), STATUSES)
def test_each_refusal_has_its_own_name(
    hub: LoopbackHub, folder: Path, tmp_path: Path, status: int, error_code: str, code: str, where: str
) -> None:
    hub.break_("org/toy", status=status, error_code=error_code, only=where)
    assert failure(hub, tmp_path).code == code


def test_a_repository_that_does_not_exist_is_not_found(hub: LoopbackHub, tmp_path: Path) -> None:
    assert failure(hub, tmp_path).code == "hub_not_found"


def test_a_hub_that_does_not_answer_is_offline(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.break_("org/toy", hang=True, only="api")
    error = failure(hub, tmp_path)
    assert isinstance(error, Offline) and error.code == "hub_timeout"


def test_a_port_nobody_listens_on_is_offline(hub: LoopbackHub, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = failure(hub, tmp_path, url=f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(error, Offline) and error.code == "hub_unreachable"


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"hang": True}, "hub_stalled"),
    ({"drip": 0.02}, "hub_stalled"),
    ({"truncate": 0}, "hub_interrupted"),
    ({"flip": 1000}, "hash_mismatch"),
]


@pytest.mark.parametrize(("fault", "code"), FAULTS)
def test_each_broken_transfer_has_its_own_name(
    hub: LoopbackHub, folder: Path, tmp_path: Path, fault: dict[str, Any], code: str
) -> None:
    hub.break_("org/toy", only="model.safetensors", **fault)
    assert failure(hub, tmp_path).code == code


def test_a_download_without_end_is_ended(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.break_("org/toy", only="model.safetensors", slow=0.4)
    error = failure(hub, tmp_path, replace(HASTY, stall=9.0, total=0.6))
    assert error.code == "hub_deadline"


def test_a_flipped_byte_is_fetched_again_not_resumed(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.break_("org/toy", only="model.safetensors", flip=1000)
    failure(hub, tmp_path)
    hub.mend("org/toy")
    client = Hub(hub.url, tmp_path / "cache", HASTY)
    found = client.fetch("org/toy", card(), stop=Stop(), progress=lambda _: None)
    assert (found / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_failed_download_leaves_nothing_that_looks_complete(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    hub.break_("org/toy", only="model.safetensors", truncate=0)
    failure(hub, tmp_path)
    assert not list((tmp_path / "cache").rglob("snapshots/*/model.safetensors"))


def test_pickled_weights_are_refused_before_a_byte_of_them_is_fetched(
    hub: LoopbackHub, folder: Path, tmp_path: Path
) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert failure(hub, tmp_path).code == "pickle_only"
    assert hub.gets() == 0


def test_a_repository_without_weights_says_so(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert failure(hub, tmp_path).code == "no_weights"


def test_a_full_disk_is_noticed_before_the_download(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, 1000))
    assert failure(hub, tmp_path).code == "disk_full"
    assert hub.gets() == 0


def test_a_disk_that_fills_up_while_writing_is_said_so(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert failure(hub, tmp_path).code == "disk_filled"


def test_an_answer_that_is_no_hub_is_said_to_be_none(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.hub._info", lambda *_: {"welcome": "to the hotel network"})
    assert failure(hub, tmp_path).code == "hub_not_a_hub"


def test_names_that_would_leave_the_folder_are_not_fetched(
    hub: LoopbackHub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = {"sha": "a" * 40, "siblings": [{"rfilename": "../../x.safetensors", "size": 3, "blobId": "b" * 40}]}
    monkeypatch.setattr("tests.hub._info", lambda *_: listing)
    assert failure(hub, tmp_path).code == "no_weights"
    assert hub.gets() == 0


def test_the_hub_of_these_tests_speaks_to_the_official_client(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    found = Path(snapshot_download("org/toy", endpoint=hub.url, cache_dir=tmp_path / "hf", token=False))
    assert (found / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_the_official_client_finds_what_was_fetched_here(hub: LoopbackHub, folder: Path, tmp_path: Path) -> None:
    from huggingface_hub import snapshot_download

    settings = Settings(root=tmp_path, cache=tmp_path / "cache", hub_endpoint=hub.url)
    found = Sources(settings).fetch(card(), stop=Stop(), progress=lambda _: None)
    cached = snapshot_download("org/toy", cache_dir=tmp_path / "cache" / "hub", local_files_only=True)
    assert Path(cached) == found
