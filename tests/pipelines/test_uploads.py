"""Adapters visitors bring: what is taken, who may use it, what is refused and what then remains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.catalog import Catalog
from pipelines.core.errors import AdapterMismatch, DemoError, InvalidInput, TooMany, UnknownModel
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterUse, ModelSpec
from pipelines.house import LOCAL, House
from pipelines.uploads import (
    MAX_ADAPTERS,
    MAX_UPLOAD,
    accept_adapter,
    adapter_from_folder,
    adapter_from_hub,
    forget_adapter,
    forget_old,
)
from tests.hub import LoopbackHub
from tests.tiny.adapters import lora_for
from tests.tiny.reasoning import llama

NAMES = ("adapter_model.safetensors", "adapter_config.json")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("files")
    llama(root / "base")
    for seed in range(MAX_ADAPTERS + 1):
        lora_for(root / "base", root / str(seed), seed=seed, r=2, target_modules=["q_proj"])
    return root


@pytest.fixture
def house(files: Path, tmp_path: Path, hub: LoopbackHub) -> House:
    base = ModelSpec(
        id="base", task="reasoning", loader="transformers", source="dir:base", size_mb=1, title={}, license="x",
        tier="starter", parameters_m=1, languages=("en",),
        options={"cls": "LlamaForCausalLM", "processor": "AutoTokenizer"},
    )  # fmt: skip
    settings = Settings(root=files, cache=tmp_path / "cache", device="cpu", budget_mb=100, hub_endpoint=hub.url)
    return House(settings, catalog=Catalog([base]))


def upload(files: Path, at: int = 0) -> list[Path]:
    return [files / str(at) / name for name in NAMES]


def logits(house: House, *ids: str) -> torch.Tensor:
    with house.registry.lease("base", [AdapterUse(id) for id in ids]) as lease, torch.inference_mode():
        return lease.model.model(torch.arange(3, 9)[None]).logits  # type: ignore[no-any-return]


def left_behind(house: House) -> list[Path]:
    return [path for path in (house.settings.cache / "uploads").rglob("*") if path.name != ".lock"]


def test_an_upload_acts_for_its_owner_and_is_unknown_to_others(house: House, files: Path) -> None:
    spec = accept_adapter(house, "base", upload(files), "ann")
    assert house.catalog.adapter(spec.id, "ann") == spec
    assert not torch.equal(logits(house, spec.id), logits(house))
    with pytest.raises(UnknownModel):
        house.catalog.adapter(spec.id, "bob")
    assert house.catalog.adapters("base", "bob") == ()


def test_the_same_files_twice_are_one_adapter_but_each_visitor_has_their_own(house: House, files: Path) -> None:
    first = accept_adapter(house, "base", upload(files), "ann")
    assert accept_adapter(house, "base", upload(files), "ann") == first
    assert accept_adapter(house, "base", upload(files), "bob").id != first.id
    assert len(house.catalog.adapters("base", "ann")) == 1


def test_a_file_changed_after_the_upload_is_not_used(house: House, files: Path) -> None:
    spec = accept_adapter(house, "base", upload(files), "ann")
    path = Path(spec.source.removeprefix("dir:")) / NAMES[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(AdapterMismatch) as error:
        logits(house, spec.id)
    assert error.value.code == "adapter_hash"


def big(folder: Path) -> list[Path]:
    with (folder / NAMES[0]).open("r+b") as file:
        file.truncate(MAX_UPLOAD + 1)
    return [folder / name for name in NAMES]


def extra(name: str) -> Callable[[Path], list[Path]]:
    def make(folder: Path) -> list[Path]:
        (folder / name).write_bytes(b"{}")
        return [*(folder / known for known in NAMES), folder / name]

    return make


def emptied(folder: Path) -> list[Path]:
    (folder / NAMES[0]).write_bytes(b"")
    return [folder / name for name in NAMES]


REFUSED: dict[str, tuple[Callable[[Path], list[Path]], str]] = {
    "nothing": (lambda _: [], "upload_incomplete"),
    "no configuration": (lambda f: [f / NAMES[0]], "upload_incomplete"),
    "no weights": (lambda f: [f / NAMES[1]], "upload_incomplete"),
    "a script": (extra("run.py"), "upload_files"),
    "an archive": (extra("adapter.zip"), "upload_files"),
    "two weights": (extra("second.safetensors"), "upload_files"),
    "a pickle": (extra("adapter_model.bin"), "adapter_pickle"),
    "too large": (big, "upload_too_large"),
    "empty": (emptied, "adapter_empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_upload_leaves_nothing(house: House, files: Path, tmp_path: Path, case: str) -> None:
    folder = Path(shutil.copytree(files / "0", tmp_path / "upload"))
    make, code = REFUSED[case]
    with pytest.raises(DemoError) as error:
        accept_adapter(house, "base", make(folder), "ann")
    assert error.value.code == code
    assert (left_behind(house), house.catalog.adapters()) == ([], ())


def test_a_visitor_may_add_only_so_many(house: House, files: Path) -> None:
    specs = [accept_adapter(house, "base", upload(files, at), "ann") for at in range(MAX_ADAPTERS)]
    with pytest.raises(TooMany):
        accept_adapter(house, "base", upload(files, MAX_ADAPTERS), "ann")
    accept_adapter(house, "base", upload(files, MAX_ADAPTERS), "bob")
    forget_adapter(house, specs[0].id, "ann")
    accept_adapter(house, "base", upload(files, MAX_ADAPTERS), "ann")


def test_forgetting_removes_it_from_memory_catalogue_and_disk(house: House, files: Path) -> None:
    spec = accept_adapter(house, "base", upload(files), "ann")
    logits(house, spec.id)
    with pytest.raises(UnknownModel):
        forget_adapter(house, spec.id, "bob")
    forget_adapter(house, spec.id, "ann")
    assert ([view.id for view in house.registry.status()], left_behind(house)) == (["base"], [])
    with pytest.raises(UnknownModel):
        house.catalog.adapter(spec.id, "ann")


def test_a_folder_is_for_the_command_line_only(house: House, files: Path) -> None:
    assert adapter_from_folder(house, "base", files / "0").owner == LOCAL
    with pytest.raises(InvalidInput) as error:
        adapter_from_folder(house, "base", files / "1", "ann")
    assert error.value.code == "folder_local_only"


def test_an_adapter_comes_from_the_hub_by_its_name(house: House, files: Path, hub: LoopbackHub) -> None:
    hub.add("org/lora", files / "0")
    spec = adapter_from_hub(house, "base", "org/lora", "ann")
    assert not torch.equal(logits(house, spec.id), logits(house))


def test_old_uploads_go_but_not_those_in_memory(house: House, files: Path) -> None:
    used = accept_adapter(house, "base", upload(files, 0), "ann")
    idle = accept_adapter(house, "base", upload(files, 1), "ann")
    with house.registry.lease("base", (AdapterUse(used.id),)):
        pass
    assert forget_old(house, 3600) == 0
    assert forget_old(house, -1) == 1
    assert {spec.id for spec in house.catalog.uploads()} == {used.id}
    assert not Path(idle.source.removeprefix("dir:")).exists()


def test_a_repository_of_a_visitor_is_sized_before_it_is_fetched_and_gets_no_token(
    house: House, files: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("pipelines.uploads.MAX_UPLOAD", 1024)
    hub.add("org/lora", files / "0")
    with pytest.raises(InvalidInput) as caught:
        adapter_from_hub(house, "base", "org/lora", "ann")
    assert caught.value.code == "upload_too_large"
    assert not [request for request in hub.requests if "/resolve/" in str(request)]
    assert hub.tokens and not any(hub.tokens)


@pytest.mark.parametrize("repo", ["", "lora", "../lora", "org/../x", "a/b/c", "http://x/y", "org/lo ra", "-o/x"])
def test_what_is_no_repository_name_makes_no_request(house: House, hub: LoopbackHub, repo: str) -> None:
    with pytest.raises(InvalidInput) as error:
        adapter_from_hub(house, "base", repo, "ann")
    assert (error.value.code, hub.requests) == ("bad_repo_id", [])


def test_an_unknown_base_is_refused(house: House, files: Path) -> None:
    with pytest.raises(UnknownModel):
        accept_adapter(house, "nothing", upload(files), "ann")


def test_importing_uploads_needs_no_framework() -> None:
    import subprocess
    import sys

    code = "import sys, pipelines.uploads; print([m for m in ('torch', 'transformers', 'gradio') if m in sys.modules])"
    done: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
