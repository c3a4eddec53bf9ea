"""A tiny random picto-coca: the layout, the picture tower and the kind of tokenizer of the starter model."""

from __future__ import annotations

import json
from pathlib import Path

from pipelines import house
from pipelines.captioning import Captioner
from pipelines.core.catalog import Catalog
from pipelines.core.registry import Registry
from pipelines.core.settings import Settings
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Job, Stop
from pipelines.gallery import MODEL, Embedder, model_key, write_vectors
from pipelines.loaders.sources import Sources
from pipelines.retrievers.towers import towers
from tests.tiny import gallery
from tests.tiny import vision_language as parts

WORDS = ("red apple", "grinning face", "flag of japan", "black cat", "红苹果", "咧嘴笑的脸", "日本国旗", "黑猫")
WIDTH = 32
SIDE = 96
CONTEXT = 32


def coca(folder: Path) -> None:
    """Everything open_clip reads from assets/weights/picto-coca, in float16."""
    import open_clip
    from safetensors.torch import save_file

    import pipelines.nets.picto  # noqa: F401  registers the tower
    from training.picto import tokenizer

    pieces = tokenizer.train(WORDS, 80)
    text = {"context_length": CONTEXT, "vocab_size": len(pieces), "width": WIDTH, "heads": 2, "layers": 1}
    config = {
        "embed_dim": WIDTH,
        "vision_cfg": {"image_size": SIDE, "timm_model_name": "picto_conv", "timm_pool": "avg", "timm_proj": ""},
        "text_cfg": {**text, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"context_length": CONTEXT, "width": WIDTH, "heads": 2, "layers": 1},
    }
    model = open_clip.CoCa(**config)
    parts.randomize(model)
    config["text_cfg"]["hf_tokenizer_name"] = "picto-coca"
    config["custom_text"] = True
    half = [0.5] * 3
    look = {"mean": half, "std": half, "interpolation": "bicubic", "resize_mode": "longest", "fill_color": 255}
    folder.mkdir(parents=True, exist_ok=True)
    layout = {"model_cfg": config, "preprocess_cfg": look}
    (folder / "open_clip_config.json").write_text(json.dumps(layout), encoding="utf-8")
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    tokenizer.save(pieces, folder)


def fusion(folder: Path) -> None:
    """The joint reader that goes with it."""
    from safetensors.torch import save_file

    from pipelines.nets.fusion import FusionHead

    network = {"width": WIDTH, "heads": 2, "layers": 1}
    head = FusionHead(**network)
    parts.randomize(head)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(head.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"network": network}), encoding="utf-8")


SPEC = ModelSpec(
    id=MODEL,
    task="captioning",
    loader="open_clip",
    source=f"dir:assets/weights/{MODEL}",
    size_mb=20,
    title={"en": "tiny", "zh": "小"},
    license="MIT",
    tier="starter",
    parameters_m=4,
    languages=("en", "zh"),
)


def captioner(folder: Path, *more: ModelSpec) -> Captioner:
    """A captioner whose starter model is the tiny one, with a gallery of noise embedded by it. `more` cards come after
    it; their files are not there.
    """
    coca(folder / "assets" / "weights" / MODEL)
    pictures = gallery.gallery(folder / "gallery")
    sources = Sources(Settings(root=folder, cache=folder / "cache"))
    loaded = house.loader(SPEC.loader).load(SPEC, sources.fetch(SPEC, stop=Stop(), progress=print), "cpu")
    look = towers(SPEC.loader, "")
    embedder = Embedder(
        model_key(SPEC),
        lambda items: look.pictures(loaded, items).numpy(),
        lambda items: look.texts(loaded, items).numpy(),
    )
    write_vectors(pictures, embedder, Job())
    registry = Registry(Catalog([SPEC, *more]), house.loader, sources.fetch, budget=2**40)
    return Captioner(registry, lease_seconds=5, gallery=pictures)
