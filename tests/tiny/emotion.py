"""Tiny random classifiers in real Hub layout, one builder per transformers class of the emotion cards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.tiny.text_to_image import qwen_tokenizer

FEELINGS = ("joy", "anger", "neutral")
ENGLISH = ("i", "love", "this", "phone", "but", "hate", "the", "battery", "it", "is", "fine")
CHINESE = tuple("我爱这部手机恨电池")
WORDS = (*ENGLISH, *CHINESE)
SIZES = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}


def _labels(*names: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


def _save(folder: Path, cls: str, config: Any, processor: Any) -> None:
    """Random weights, with a classifier strong enough that inputs tell in the output."""
    import transformers

    torch.manual_seed(0)
    model = getattr(transformers, cls)(config).eval()
    for name, weight in model.named_parameters():
        if "classifier" in name and weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.6)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def bert(folder: Path) -> None:
    from transformers import BertConfig, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=64)
    config = BertConfig(vocab_size=len(words), max_position_embeddings=64, **SIZES, **_labels(*FEELINGS))
    _save(folder, "BertForSequenceClassification", config, tokenizer)


def xlm_roberta(folder: Path) -> None:
    """Behind AutoModelForSequenceClassification: eight classes that have no names of their own."""
    from transformers import XLMRobertaConfig, XLMRobertaTokenizer

    words = ["<s>", "<pad>", "</s>", "<unk>", *("▁" + word for word in WORDS), *CHINESE, "▁"]
    pieces = [(word, -float(i)) for i, word in enumerate(words)] + [("<mask>", 0.0)]
    tokenizer = XLMRobertaTokenizer(vocab=pieces, model_max_length=64)
    config = XLMRobertaConfig(vocab_size=len(pieces), max_position_embeddings=66, num_labels=8, **SIZES)
    _save(folder, "XLMRobertaForSequenceClassification", config, tokenizer)


def deberta(folder: Path) -> None:
    from transformers import DebertaV2Config, DebertaV2Tokenizer

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *("▁" + word for word in WORDS), "▁", "[MASK]"]
    tokenizer = DebertaV2Tokenizer(vocab=[(word, -float(i)) for i, word in enumerate(words)], model_max_length=64)
    config = DebertaV2Config(
        vocab_size=len(words), max_position_embeddings=64, type_vocab_size=2, relative_attention=True,
        position_biased_input=False, pos_att_type=["p2c", "c2p"], share_att_key=True, **SIZES,
        **_labels("Negative", "Neutral", "Positive"),
    )  # fmt: skip
    _save(folder, "DebertaV2ForSequenceClassification", config, tokenizer)


def vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor

    size = {"height": 32, "width": 32}
    config = ViTConfig(image_size=32, patch_size=8, **SIZES, **_labels("happy", "angry", "neutral"))
    _save(folder, "ViTForImageClassification", config, ViTImageProcessor(size=size))


def _speech(cls: str, config: type) -> Callable[[Path], None]:
    def build(folder: Path) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        given = config(
            conv_dim=(16, 16), conv_stride=(16, 20), conv_kernel=(16, 20), num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=2, classifier_proj_size=16, **SIZES, **_labels("neu", "hap", "ang", "sad"),
        )  # fmt: skip
        _save(folder, cls, given, Wav2Vec2FeatureExtractor(sampling_rate=16_000))

    return build


def wav2vec2(folder: Path) -> None:
    from transformers import Wav2Vec2Config

    _speech("Wav2Vec2ForSequenceClassification", Wav2Vec2Config)(folder)


def hubert(folder: Path) -> None:
    from transformers import HubertConfig

    _speech("HubertForSequenceClassification", HubertConfig)(folder)


def qwen3(folder: Path) -> None:
    """A chat model that is asked for the feeling."""
    from transformers import Qwen3Config

    tokenizer = qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), num_key_value_heads=2, head_dim=8, max_position_embeddings=2048,
        initializer_range=0.3, bos_token_id=256, eos_token_id=256, pad_token_id=256, **SIZES,
    )  # fmt: skip
    _save(folder, "Qwen3ForCausalLM", config, tokenizer)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "BertForSequenceClassification": bert,
    "AutoModelForSequenceClassification": xlm_roberta,
    "DebertaV2ForSequenceClassification": deberta,
    "ViTForImageClassification": vit,
    "Wav2Vec2ForSequenceClassification": wav2vec2,
    "HubertForSequenceClassification": hubert,
    "Qwen3ForCausalLM": qwen3,
}
