"""Parts that the tiny captioning and retrieval models share: tokenizers and picture processors made on the spot."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

BYTES = sorted(ByteLevel.alphabet())
IMAGE = 32  # pixels a side
LETTERS = [chr(c) for c in range(33, 127)] + list("一只猫狗在草地上的照片描述这张图片用句话")

QWEN_SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def numbered(tokens: list[str]) -> dict[str, int]:
    return {token: id for id, token in enumerate(tokens)}


def bert_tokenizer() -> Any:
    from transformers import BertTokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    return BertTokenizer(vocab=numbered([*special, *LETTERS, *(f"##{letter}" for letter in LETTERS)]))


def clip_tokenizer() -> Any:
    from transformers import CLIPTokenizer

    special = ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab=numbered([*BYTES, *(f"{byte}</w>" for byte in BYTES), *special]), merges=[])


def bart_tokenizer() -> Any:
    from transformers import BartTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return BartTokenizer(vocab=numbered([*special, *BYTES]), merges=[], extra_special_tokens={"image_token": "<image>"})


def qwen_tokenizer() -> Any:
    from transformers import Qwen2Tokenizer

    # "yes" and "no" are single tokens, as the re-ranker needs them
    vocab = numbered([*BYTES, "ye", "yes", "no", "<|endoftext|>"])
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[("y", "e"), ("ye", "s"), ("n", "o")])
    tokenizer.add_special_tokens({"additional_special_tokens": QWEN_SPECIAL})
    tokenizer.chat_template = QWEN_TEMPLATE
    return tokenizer


def siglip_tokenizer() -> Any:
    from transformers import Siglip2Tokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *LETTERS]
    return Siglip2Tokenizer(vocab=numbered([*special, *letters]), merges=[])


def size() -> dict[str, int]:
    return {"height": IMAGE, "width": IMAGE}


def clip_images() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": IMAGE}, crop_size=size())


def qwen_processor() -> Any:
    from transformers import Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    limits = {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}
    images = Qwen2VLImageProcessor(patch_size=16, size=limits)
    videos = Qwen3VLVideoProcessor(patch_size=16)
    return Qwen3VLProcessor(images, qwen_tokenizer(), videos, chat_template=QWEN_TEMPLATE)


def qwen3_vl_config() -> Any:
    from transformers import Qwen3VLConfig

    tokenizer = qwen_tokenizer()
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True},
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        },
        vision_config=qwen_vision(deepstack_visual_indexes=[0]),
        tie_word_embeddings=True,
        **qwen_ids(tokenizer),
    )


def qwen_vision(**more: Any) -> dict[str, Any]:
    return {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 16,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
        **more,
    }


def qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    return {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def bert_like(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """Text config of a small BERT-like tower."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 77,
        "pad_token_id": tokenizer.pad_token_id,
        **more,
    }


def vit_like(**more: Any) -> dict[str, Any]:
    """Vision config of a small ViT."""
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": IMAGE,
        "patch_size": 16,
        **more,
    }


def randomize(model: torch.nn.Module) -> None:
    """Untrained weights drawn far from zero, so that different pictures give different results; always the same."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("embedding"):
                parameter.normal_(0, 0.3, generator=generator)


def save(folder: Any, model: Any, processor: Any) -> None:
    """Both in Hub layout, with random weights."""
    randomize(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
