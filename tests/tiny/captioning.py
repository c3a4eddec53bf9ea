"""Tiny random captioning models in real Hub layout, keyed by the class a card names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.tiny import vision_language as parts


def blip(folder: Path) -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    tokenizer = parts.bert_tokenizer()
    text = parts.bert_like(
        tokenizer, encoder_hidden_size=32, bos_token_id=5, sep_token_id=tokenizer.sep_token_id, eos_token_id=2
    )
    config = BlipConfig(text_config=text, vision_config=parts.vit_like(), projection_dim=32)
    processor = BlipProcessor(BlipImageProcessor(size=parts.size()), tokenizer)
    parts.save(folder, BlipForConditionalGeneration(config), processor)


def git(folder: Path) -> None:
    from transformers import GitConfig, GitForCausalLM, GitProcessor

    tokenizer = parts.bert_tokenizer()
    ends = {"bos_token_id": tokenizer.cls_token_id, "eos_token_id": tokenizer.sep_token_id}
    config = GitConfig(vision_config=parts.vit_like(), **parts.bert_like(tokenizer, **ends))
    parts.save(folder, GitForCausalLM(config), GitProcessor(parts.clip_images(), tokenizer))


def florence2(folder: Path) -> None:
    from transformers import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor

    tokenizer, images = parts.bart_tokenizer(), parts.clip_images()
    images.image_seq_length = 2
    text = {
        "vocab_size": len(tokenizer),
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 128,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
    }
    vision = {
        "depths": [1, 1],
        "patch_size": [7, 3],
        "patch_stride": [4, 8],
        "patch_padding": [3, 1],
        "patch_prenorm": [False, True],
        "embed_dim": [16, 32],
        "num_heads": [2, 2],
        "num_groups": [2, 2],
        "window_size": 4,
        "projection_dim": 32,
    }
    config = Florence2Config(
        text_config=text, vision_config=vision, image_token_id=tokenizer.image_token_id, bos_token_id=0, eos_token_id=2
    )
    parts.save(folder, Florence2ForConditionalGeneration(config), Florence2Processor(images, tokenizer))


def qwen3_vl(folder: Path) -> None:
    from transformers import Qwen3VLForConditionalGeneration

    parts.save(folder, Qwen3VLForConditionalGeneration(parts.qwen3_vl_config()), parts.qwen_processor())


def qwen3_5(folder: Path) -> None:
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    tokenizer = parts.qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True},
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
    }
    config = Qwen3_5Config(
        text_config=text, vision_config=parts.qwen_vision(), tie_word_embeddings=True, **parts.qwen_ids(tokenizer)
    )
    parts.save(folder, Qwen3_5ForConditionalGeneration(config), parts.qwen_processor())


BUILDERS: dict[str, Callable[[Path], None]] = {
    "BlipForConditionalGeneration": blip,
    "GitForCausalLM": git,
    "Florence2ForConditionalGeneration": florence2,
    "Qwen3VLForConditionalGeneration": qwen3_vl,
    "Qwen3_5ForConditionalGeneration": qwen3_5,
}
