"""What others learnt the hard way about adapters on demand, on a real tiny model through the real registry."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipelines.core.catalog import Catalog
from pipelines.core.errors import AdapterMismatch, ModelLoadFailed
from pipelines.core.registry import OnProgress, Registry
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.core.streaming import Stop
from pipelines.loaders.lora import HOW
from pipelines.loaders.memory import give_back
from pipelines.loaders.transformers import TransformersLoader
from tests.tiny.adapters import lora_for
from tests.tiny.reasoning import llama

IDS = torch.arange(3, 13)[None]
AMPLE = 2**30


class Counting(TransformersLoader):
    """The real loader, counting what it does."""

    def __init__(self) -> None:
        self.loads = 0
        self.attached: list[str] = []
        self.networks: list[weakref.ref[Any]] = []

    def load(self, spec: ModelSpec, folder: Path, device: str) -> Any:
        self.loads += 1
        time.sleep(0.05)  # long enough for others to arrive
        loaded = super().load(spec, folder, device)
        self.networks.append(weakref.ref(loaded.model))
        return loaded

    def attach(self, model: Any, spec: AdapterSpec, folder: Path) -> Any:
        self.attached.append(spec.id)
        return super().attach(model, spec, folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("files")
    llama(root / "base")
    for seed, id in enumerate("abc"):
        lora_for(root / "base", root / id, seed=seed)
    return root


@pytest.fixture
def loader() -> Counting:
    return Counting()


@pytest.fixture
def registry(files: Path, loader: Counting) -> Registry:
    return make(files, loader)


def make(files: Path, loader: Counting) -> Registry:
    base = ModelSpec(
        id="base", task="reasoning", loader="transformers", source="dir:base", size_mb=1, title={}, license="x",
        tier="starter", parameters_m=1, languages=("en",),
        options={"cls": "LlamaForCausalLM", "processor": "AutoTokenizer"},
    )  # fmt: skip
    adapters = [
        AdapterSpec(id=id, base="base", source=f"dir:{id}", title={}, license="x", size_mb=0.02) for id in "abc"
    ]

    def fetch(spec: ModelSpec | AdapterSpec, *, stop: Stop, progress: OnProgress) -> Path:
        return files / spec.id

    return Registry(Catalog([base], adapters), lambda _: loader, fetch, budget=AMPLE)


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return model.model(IDS).logits  # type: ignore[no-any-return]


def answer(registry: Registry, *ids: str, weight: float = 1.0) -> torch.Tensor:
    with registry.lease("base", [AdapterUse(id, weight) for id in ids]) as lease:
        return logits(lease.model)


def tensors_alive() -> int:
    """Bytes of all tensors the process holds, storage counted once."""
    import gc

    give_back()
    blocks = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            blocks[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(blocks.values())


def test_unloading_frees_the_bytes_and_a_reload_makes_no_second_copy(registry: Registry, loader: Counting) -> None:
    empty = tensors_alive()
    first = answer(registry, "a")
    full = tensors_alive()
    assert full - first.nbytes - empty > 100_000
    for _ in range(3):
        registry.unload("base")
        assert tensors_alive() - first.nbytes <= empty
        assert torch.equal(answer(registry, "a"), first)
        assert tensors_alive() <= full
    assert [network() is None for network in loader.networks] == [True, True, True, False]


def test_generations_with_an_adapter_do_not_grow_memory(registry: Registry) -> None:
    answer(registry, "a")
    answer(registry, "b")
    held, resident = tensors_alive(), psutil.Process().memory_info().rss
    for at in range(100):
        answer(registry, "ab"[at % 2])
    assert tensors_alive() == held
    assert psutil.Process().memory_info().rss - resident < 16 * 2**20


def test_the_answer_is_the_same_whether_memory_is_ample_or_tiny(files: Path, registry: Registry) -> None:
    tiny = make(files, Counting())
    answer(tiny)
    tiny.set_budget(tiny.used + 30_000)  # room for one adapter
    for id in "abcab":
        assert torch.equal(answer(tiny, id), answer(registry, id))
    assert {event.id for event in tiny.evictions()} == set("abc")


def test_detaching_the_last_adapter_restores_the_base_exactly(registry: Registry) -> None:
    before = answer(registry)
    assert not torch.equal(answer(registry, "a", "b"), before)
    assert float((answer(registry) - before).abs().max()) == 0.0
    registry.unload("a")
    registry.unload("b")
    assert float((answer(registry) - before).abs().max()) == 0.0


def test_a_request_under_way_keeps_its_adapter(registry: Registry) -> None:
    expected = answer(registry, "a")
    with registry.lease("base", [AdapterUse("a")]) as lease:
        other = threading.Thread(target=answer, args=(registry, "b"))
        other.start()
        registry.set_budget(registry.used + 8192)  # no room for both
        for _ in range(5):
            assert torch.equal(logits(lease.model), expected)
    other.join(10)
    assert not other.is_alive()
    assert [(event.id, event.reason) for event in registry.evictions()] == [("a", "room")]


def test_a_hundred_first_requests_make_one_load(registry: Registry, loader: Counting) -> None:
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: answer(registry, "a"), range(100)))
    assert (loader.loads, loader.attached) == (1, ["a"])
    assert all(torch.equal(each, answers[0]) for each in answers)


def test_two_visitors_with_two_adapters_alternate_without_crossing(registry: Registry) -> None:
    alone = {id: answer(registry, id) for id in "ab"}
    wrong: list[str] = []

    def visitor(id: str) -> None:
        for _ in range(25):
            if not torch.equal(answer(registry, id), alone[id]):
                wrong.append(id)

    threads = [threading.Thread(target=visitor, args=(id,)) for id in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_the_status_says_how_an_adapter_got_in_and_what_it_weighs(registry: Registry, files: Path) -> None:
    answer(registry, "a")
    _, view = registry.status()
    file = (files / "a" / "adapter_model.safetensors").stat().st_size
    assert (view.kind, view.how, view.measured) == ("adapter", HOW, True)
    assert file - 8192 < view.size <= file


def test_a_refused_adapter_leaves_the_base_in_use(registry: Registry, break_it: Callable[[], None]) -> None:
    before = answer(registry)
    break_it()
    with pytest.raises(AdapterMismatch):
        answer(registry, "c")
    assert [view.id for view in registry.status()] == ["base"]
    assert torch.equal(answer(registry), before)


@pytest.fixture
def break_it(files: Path) -> Any:
    """Cuts the weights of adapter c short, for the length of a test."""
    path = files / "c" / "adapter_model.safetensors"
    data = path.read_bytes()
    yield lambda: path.write_bytes(data[:-1])
    path.write_bytes(data)


def test_a_failed_load_leaves_nothing_and_the_next_one_succeeds(files: Path, registry: Registry) -> None:
    weights = files / "base" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:1000])
    with pytest.raises(ModelLoadFailed):
        answer(registry)
    assert registry.status() == ()
    weights.write_bytes(data)
    assert answer(registry).isfinite().all()
