"""Tiny random retrieval models in real Hub layout, keyed by the class a card names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.tiny import picto
from tests.tiny import vision_language as parts
from tests.tiny.captioning import qwen3_vl


def clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    tokenizer = parts.clip_tokenizer()
    text = parts.bert_like(tokenizer, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id)
    config = CLIPConfig(text_config=text, vision_config=parts.vit_like(), projection_dim=16)
    parts.save(folder, CLIPModel(config), CLIPProcessor(parts.clip_images(), tokenizer))


def chinese_clip(folder: Path) -> None:
    from transformers import ChineseCLIPConfig, ChineseCLIPImageProcessor, ChineseCLIPModel, ChineseCLIPProcessor

    tokenizer = parts.bert_tokenizer()
    config = ChineseCLIPConfig(
        text_config=parts.bert_like(tokenizer), vision_config=parts.vit_like(), projection_dim=16
    )
    images = ChineseCLIPImageProcessor(size=parts.size(), crop_size=parts.size())
    parts.save(folder, ChineseCLIPModel(config), ChineseCLIPProcessor(images, tokenizer))


def siglip(folder: Path) -> None:
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    tokenizer = parts.siglip_tokenizer()
    text = parts.bert_like(
        tokenizer, max_position_embeddings=16, projection_size=32, bos_token_id=tokenizer.bos_token_id, eos_token_id=1
    )
    config = SiglipConfig(text_config=text, vision_config=parts.vit_like())
    parts.save(folder, SiglipModel(config), SiglipProcessor(SiglipImageProcessor(size=parts.size()), tokenizer))


def metaclip2(folder: Path) -> None:
    from transformers import CLIPProcessor, MetaClip2Config, MetaClip2Model

    tokenizer = parts.clip_tokenizer()
    text = parts.bert_like(tokenizer, eos_token_id=tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id)
    config = MetaClip2Config(text_config=text, vision_config=parts.vit_like(), projection_dim=16)
    parts.save(folder, MetaClip2Model(config), CLIPProcessor(parts.clip_images(), tokenizer))


def blip_itm(folder: Path) -> None:
    from transformers import BlipConfig, BlipForImageTextRetrieval, BlipImageProcessor, BlipProcessor

    tokenizer = parts.bert_tokenizer()
    text = parts.bert_like(tokenizer, encoder_hidden_size=32, bos_token_id=5, sep_token_id=3, eos_token_id=2)
    config = BlipConfig(text_config=text, vision_config=parts.vit_like(), projection_dim=32, image_text_hidden_size=16)
    processor = BlipProcessor(BlipImageProcessor(size=parts.size()), tokenizer)
    parts.save(folder, BlipForImageTextRetrieval(config), processor)


def open_clip(folder: Path) -> None:
    _open_clip(folder, {})


def coca(folder: Path) -> None:
    """A CoCa: the same, and a decoder that writes captions."""
    decoder = {"context_length": 76, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
    _open_clip(folder, {"multimodal_cfg": decoder, "custom_text": True})


def _open_clip(folder: Path, more: dict) -> None:
    """The tokenizer of open_clip is its own and has 49,408 words, so the rows are kept short."""
    import open_clip
    from safetensors.torch import save_file

    is_coca = "multimodal_cfg" in more
    vision = {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}
    text = {"context_length": 76 if is_coca else 77, "vocab_size": 49408, "width": 4, "heads": 2, "layers": 1}
    if is_coca:
        vision |= {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
        text |= {"embed_cls": True, "output_tokens": True}
    config = {"embed_dim": 4, "vision_cfg": vision, "text_cfg": text, **more}
    folder.mkdir(parents=True, exist_ok=True)
    mean, std = list(open_clip.OPENAI_DATASET_MEAN), list(open_clip.OPENAI_DATASET_STD)
    layout = {"model_cfg": config, "preprocess_cfg": {"mean": mean, "std": std}}
    (folder / "open_clip_config.json").write_text(json.dumps(layout), encoding="utf-8")
    model = (open_clip.CoCa if is_coca else open_clip.CLIP)(**_arguments(config))
    parts.randomize(model)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


def _arguments(config: dict) -> dict:
    return {key: value for key, value in config.items() if key != "custom_text"}


BUILDERS: dict[str, Callable[[Path], None]] = {
    "CLIPModel": clip,
    "ChineseCLIPModel": chinese_clip,
    "SiglipModel": siglip,
    "MetaClip2Model": metaclip2,
    "BlipForImageTextRetrieval": blip_itm,
    "Qwen3VLModel": qwen3_vl,  # the Hub's embedding checkpoint has the layout of the whole chat model
    "Qwen3VLForConditionalGeneration": qwen3_vl,
    "open_clip": open_clip,
    "coca": coca,
    "picto": picto.coca,
    "pipelines.nets.fusion:FusionHead": picto.fusion,
}
