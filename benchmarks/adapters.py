"""Adapter claims against PEFT, in one run on one base: SmolLM2-135M, LoRA of rank 16 on all 210 linear layers.

    python -m benchmarks.adapters [repeats]

Ours goes the whole way through the registry: lease asked for, files read and checked, adapter acting. PEFT is
given the same files. Exits 1 if a goal is missed.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.table import Timing, show, timed
from pipelines.core.catalog import Catalog
from pipelines.core.registry import OnProgress, Registry
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.core.streaming import Stop
from pipelines.house import CATALOG
from pipelines.loaders.sources import Sources
from pipelines.loaders.transformers import TransformersLoader

BASE = "smollm2-135m"
RESIDENT = 32
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SHAPE = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


def base_folder(temporary: Path) -> tuple[Path, str]:
    """The starter model where it is installed, else random weights of its shape; and which of the two it is."""
    sources, spec = Sources(Settings.read()), Catalog.read(CATALOG).model(BASE)
    if sources.missing(spec) is None:
        return sources.fetch(spec, stop=Stop(), progress=lambda _: None), "SmolLM2-135M"
    folder = temporary / "base"
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(folder)
    return folder, "random weights of SmolLM2-135M's shape"


def write_adapters(base: Path, folder: Path) -> list[Path]:
    """Two different adapters as PEFT saves them."""
    made = []
    for seed in range(2):
        torch.manual_seed(seed)
        config = LoraConfig(r=16, lora_alpha=16, target_modules=list(LINEAR), init_lora_weights=False)
        network = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                parameter.data *= 0.01
        network.save_pretrained(folder / str(seed))
        made.append(folder / str(seed))
    return made


def registry_over(base: Path, adapters: list[Path]) -> Registry:
    """A registry whose adapters r0 … r31 are those files in turn."""
    card = ModelSpec(
        id="base", task="reasoning", loader="transformers", source="dir:base", size_mb=600, title={}, license="x",
        tier="starter", parameters_m=135, languages=("en",), options={"cls": "LlamaForCausalLM", "processor": ""},
    )  # fmt: skip
    cards = [
        AdapterSpec(id=f"r{at}", base="base", source=f"dir:{at}", title={}, license="x", size_mb=20)
        for at in range(RESIDENT)
    ]
    loader = TransformersLoader()

    def fetch(spec: ModelSpec | AdapterSpec, *, stop: Stop, progress: OnProgress) -> Path:
        return base if isinstance(spec, ModelSpec) else adapters[int(spec.id[1:]) % 2]

    return Registry(Catalog([card], cards), lambda _: loader, fetch, budget=8 * 2**30)


def peft_times(base: Path, adapters: list[Path], repeats: int) -> tuple[dict[str, Timing], torch.Tensor]:
    """load_adapter with one other resident, set_adapter between two, and the second adapter's logits."""
    network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    network = PeftModel.from_pretrained(network, adapters[0], adapter_name="first").eval()

    def load(at: int) -> None:
        network.load_adapter(adapters[1], adapter_name=f"cold{at}")

    loaded = timed(load, repeats, lambda at: network.delete_adapter(f"cold{at}"))
    network.load_adapter(adapters[1], adapter_name="second")
    switched = timed(lambda at: network.set_adapter(("first", "second")[at % 2]), repeats * 4)
    network.set_adapter("second")
    return {"load": loaded, "switch": switched}, _logits(network)


def our_times(registry: Registry, repeats: int) -> tuple[dict[str, Timing], torch.Tensor]:
    """A cold adapter until it acts, a switch between two resident ones, and a lease without adapters."""
    with registry.lease("base", [AdapterUse("r0")]):
        pass

    def use(id: str) -> None:
        with registry.lease("base", [AdapterUse(id)]):
            pass

    def bare(_: int) -> None:
        with registry.lease("base"):
            pass

    loaded = timed(lambda _: use("r1"), repeats, lambda _: registry.unload("r1"))
    use("r1")
    switched = timed(lambda at: use(("r0", "r1")[at % 2]), repeats * 4)
    leased = timed(bare, repeats * 20)
    with registry.lease("base", [AdapterUse("r1")]) as lease:
        logits = _logits(lease.model.model)
    return {"load": loaded, "switch": switched, "lease": leased}, logits


def resident_bytes(registry: Registry) -> tuple[int, int]:
    """Bytes the registry counts for 32 adapters, and by how much the process grew for the 30 added here, scaled up."""
    before = psutil.Process().memory_info().rss
    for at in range(2, RESIDENT):
        with registry.lease("base", [AdapterUse(f"r{at}")]):
            pass
    grown = psutil.Process().memory_info().rss - before
    counted = sum(view.size for view in registry.status() if view.kind == "adapter")
    return counted, grown * RESIDENT // (RESIDENT - 2)


@torch.inference_mode()
def _logits(network: Any) -> torch.Tensor:
    return network(torch.arange(100, 120)[None]).logits  # type: ignore[no-any-return]


def main(repeats: int = 7) -> int:
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as made:
        base, what = base_folder(Path(made))
        adapters = write_adapters(base, Path(made))
        file = (adapters[0] / "adapter_model.safetensors").stat().st_size
        layers = json.loads((adapters[0] / "adapter_config.json").read_text())["target_modules"]
        print(f"{what}; rank 16, {len(layers)} kinds of layers, {file / 1e6:.1f} MB; {torch.get_num_threads()} threads")
        peft, theirs = peft_times(base, adapters, repeats)
        gc.collect()  # PEFT's modules are cycles: let them not slow what follows
        registry = registry_over(base, adapters)
        ours, mine = our_times(registry, repeats)
        counted, grown = resident_bytes(registry)
    return report(peft, ours, (counted / (RESIDENT * file), grown / (RESIDENT * file)), mine, theirs)


def report(
    peft: dict[str, Timing],
    ours: dict[str, Timing],
    memory: tuple[float, float],
    mine: torch.Tensor,
    theirs: torch.Tensor,
) -> int:
    faster = peft["load"].median / ours["load"].median
    switch = ours["switch"].median / peft["switch"].median
    difference = float((mine - theirs).abs().max() / theirs.abs().max())
    rows = [
        ("cold adapter ready", str(peft["load"]), str(ours["load"]), f"{faster:.1f}x faster", ">= 5x", faster >= 5),
        ("switch to a resident one", str(peft["switch"]), str(ours["switch"]), f"{switch:.2f}x", "<= 1x", switch <= 1),
        ("lease, no adapter", "", str(ours["lease"]), "", "< 1 ms", ours["lease"].median < 1e-3),
        (f"{RESIDENT} residents, counted", "", "", f"{memory[0]:.2f}x files", "<= 2x", memory[0] <= 2),
        (f"{RESIDENT} residents, process", "", "", f"{memory[1]:.2f}x files", "<= 2x", memory[1] <= 2),
        ("largest difference of logits", "", "", f"{difference:.1e}", "<= 1e-4", difference <= 1e-4),
    ]
    table = [(*row[:5], "yes" if row[5] else "NO") for row in rows]
    show(("", "PEFT", "ours", "ratio", "goal", "met"), table)
    return 0 if all(row[5] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 7))
