"""Tiny random chat models in real Hub layout, one builder per transformers class of the reasoning cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = ["the cat sat on the mat and the dog ran home", "step by step we add one and two", "一步一步思考 答案"]


def chat_tokenizer(vocab: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a ChatML template: every string can be spelt, as in the real ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[AddedToken(text, special=True) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = TEMPLATE
    return fast


def _save(folder: Path, config: Any, cls: str) -> None:
    import transformers

    tokenizer = chat_tokenizer()
    config.vocab_size = len(tokenizer)
    config.eos_token_id = tokenizer.eos_token_id
    config.bos_token_id = config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    model = getattr(transformers, cls)(config).eval()
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _sizes(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "initializer_range": 0.3,  # far from uniform, so that greedy choices are clear
        **more,
    }


def llama(folder: Path) -> None:
    from transformers import LlamaConfig

    _save(folder, LlamaConfig(**_sizes()), "LlamaForCausalLM")


def qwen2(folder: Path) -> None:
    from transformers import Qwen2Config

    _save(folder, Qwen2Config(**_sizes(tie_word_embeddings=True)), "Qwen2ForCausalLM")


def qwen3(folder: Path) -> None:
    from transformers import Qwen3Config

    _save(folder, Qwen3Config(**_sizes(head_dim=8)), "Qwen3ForCausalLM")


def qwen3_moe(folder: Path) -> None:
    from transformers import Qwen3MoeConfig

    sizes = _sizes(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    _save(folder, Qwen3MoeConfig(**sizes), "Qwen3MoeForCausalLM")


BUILDERS: dict[str, Callable[[Path], None]] = {
    "LlamaForCausalLM": llama,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
}


def lora(base: Path, folder: Path) -> None:
    """A random rank-4 LoRA, not a silent one, for the tiny model in `base`."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
