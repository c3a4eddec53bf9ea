"""A unigram (sentencepiece) tokenizer for both languages, as a HF fast tokenizer that open_clip reads.

Kudo 2018, "Subword Regularization". Every Chinese character is a piece of its own: names are built of characters
(浣熊 holds 熊), and so is what the text tower can guess about a name it never saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from tokenizers.trainers import UnigramTrainer
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<en>", "<zh>")
PAD, START, END, UNKNOWN, ENGLISH, CHINESE = range(len(SPECIAL))
MARK = {"en": ENGLISH, "zh": CHINESE}
CONTEXT = 24
HAN = r"[\u3400-\u9fff]"


def train(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `size` pieces, special ones included; text is case-folded."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Split(Regex(HAN), "isolated")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    texts = list(texts)
    characters = sorted({character for text in texts for character in text.lower()})
    trainer = UnigramTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), unk_token="<unk>", initial_alphabet=characters
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<en>", "<zh>"],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    tokenizer.save_pretrained(str(folder))


def words(text: str) -> list[str]:
    """Case-folded words, each Chinese character one of them."""
    return re.findall(HAN + r"|[^\W_\u3400-\u9fff]+", text.lower())
