"""What words mean, for the text tower: three thousand names alone do not teach that a raccoon is an animal.

Every text gets a target vector. English: WordLlama's static embedding (MIT) of the text, of what WordNet says about it
(synonyms, kinds, gloss) and of its keywords. Chinese: its English twin's target where the pictures bring one, else a
ridge regression from word2vec (package `synonyms` 3.10.2, MIT) and from Unihan's definitions of its characters
(Unicode licence) onto the English targets. Besides the captions, some ten thousand words of each language without a
picture. Only the training split is read: no caption of an unseen concept, and no picture of one.

    python -m training.picto.knowledge --data DATA --work WORK \\
        --wordllama DIR --wordnet DIR --unihan FILE --synonyms FILE
"""

from __future__ import annotations

import argparse
import bz2
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from training.picto import records

SEEN_KINDS = {5, 6, 7, 8, 11, 12, 13, 15, 17, 18, 19, 20, 25, 27, 28}  # WordNet's files of nouns one can draw
PERSON = 18  # WordNet's file of people
MAX_PIECES, MAX_CHINESE = 4, 40_000
RIDGE = 1.0


class WordLlama:
    """Texts as unit rows [n, 256]: the mean of their tokens' vectors."""

    def __init__(self, folder: Path) -> None:
        self.rows = next(iter(load_file(folder / "weights/l2_supercat_256.safetensors").values())).astype(np.float32)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizers/l2_supercat_tokenizer_config.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        out = np.zeros((len(texts), self.rows.shape[1]), np.float32)
        for at, ids in enumerate(self.ids(texts)):
            if ids:
                out[at] = self.rows[ids].mean(axis=0)
        return unit(out)


class WordNet:
    """The nouns of WordNet 3.0 from its own files."""

    def __init__(self, folder: Path) -> None:
        self.senses: dict[str, list[str]] = {}
        self.synsets: dict[str, tuple[int, list[str], list[str], str]] = {}
        for line in _lines(folder / "index.noun"):
            fields = line.split()
            self.senses[fields[0].replace("_", " ")] = fields[-int(fields[2]) :]
        for line in _lines(folder / "data.noun"):
            head, gloss = line.split("|", 1)
            fields = head.split()
            after = 4 + 2 * int(fields[3], 16)
            names = [name.replace("_", " ") for name in fields[4:after:2]]
            pointers = fields[after + 1 : after + 1 + 4 * int(fields[after])]
            kinds = [target for mark, target in zip(pointers[::4], pointers[1::4], strict=True) if mark in ("@", "@i")]
            self.synsets[fields[0]] = (int(fields[1]), names, kinds, gloss.split(";")[0].strip())

    def drawable(self) -> list[str]:
        """Nouns of which some sense is a thing one can draw."""
        return [noun for noun, found in self.senses.items() if any(self.synsets[o][0] in SEEN_KINDS for o in found[:3])]

    def about(self, text: str) -> str:
        """Synonyms, kinds and gloss of the longest ending of the text that is a noun; "" where none is."""
        said = text.lower().replace("-", " ").split()
        for first in range(len(said)):
            offsets = self._find(" ".join(said[first:]))
            if offsets:
                return " ".join(self._tell(offset) for offset in offsets[:2])
        return ""

    def names(self, text: str) -> list[str]:
        """What else a thing is called: "tap" is "faucet", too. Never a person: WordNet lists slurs among the names."""
        drawable = [o for o in self._find(text.lower()) if self.synsets[o][0] in SEEN_KINDS - {PERSON}]
        return [name for name in self.synsets[drawable[0]][1] if name != text.lower()][:3] if drawable else []

    def _find(self, noun: str) -> list[str]:
        for form in (noun, noun.removesuffix("s"), noun.removesuffix("es")):
            if form in self.senses:
                found = self.senses[form]
                drawable = [offset for offset in found[:4] if self.synsets[offset][0] in SEEN_KINDS]
                return drawable or found
        return []

    def _tell(self, offset: str) -> str:
        _, names, kinds, gloss = self.synsets[offset]
        chain: list[str] = []
        while kinds and len(chain) < 4:
            _, above, kinds, _ = self.synsets[kinds[0]]
            chain.append(above[0])
        return " ".join([*names[:3], *chain, gloss])


class Chinese:
    """Chinese texts as rows of features: word2vec of their words beside the meaning of their characters."""

    def __init__(self, synonyms: Path, unihan: Path, english: WordLlama) -> None:
        self.words = _word2vec(synonyms)
        self.english = english
        self.meaning: dict[str, str] = {}
        with bz2.open(unihan, "rt", encoding="utf-8") as lines:
            for line in lines:
                fields = line.rstrip("\n").split("\t")
                if len(fields) > 2 and fields[1] == "kDefinition":
                    self.meaning[chr(int(fields[0][2:], 16))] = fields[2][:40]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        dimension = len(next(iter(self.words.values())))
        rows = np.zeros((len(texts), dimension), np.float32)
        for at, text in enumerate(texts):
            found = [self.words[word] for word in self._cut(text)]
            if found:
                rows[at] = np.mean(found, axis=0)
        said = self.english([" ".join(self.meaning.get(character, "") for character in text) for text in texts])
        return np.concatenate([unit(rows), said], axis=1)

    def _cut(self, text: str) -> list[str]:
        """The longest known words from the left."""
        out, at = [], 0
        while at < len(text):
            lengths = (n for n in range(min(5, len(text) - at), 0, -1) if text[at : at + n] in self.words)
            length = next(lengths, 0)
            if length:
                out.append(text[at : at + length])
            at += max(length, 1)
        return out


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def build(options: argparse.Namespace) -> None:
    """Writes `knowledge.json` (texts), `knowledge.safetensors` (their targets, float16, in the same order) and
    `names.json` (caption: other names).
    """
    learnt, _ = records.split_styles(records.permissive(records.read(options.data / "train.jsonl")))
    llama, net = WordLlama(options.wordllama), WordNet(options.wordnet)
    about = {record["caption_en"]: ", ".join(record["keywords_en"]) for record in learnt}
    captions = list(about)

    def english(texts: Sequence[str]) -> np.ndarray:
        return llama(texts) + llama([net.about(text) for text in texts])

    targets = unit(english(captions) + 0.5 * llama([about[text] for text in captions]))
    at = {text: number for number, text in enumerate(captions)}
    twins = {record["caption_zh"]: at[record["caption_en"]] for record in learnt if record["caption_zh"]}

    chinese = Chinese(options.synonyms, options.unihan, llama)
    known, wanted = chinese(list(twins)), targets[list(twins.values())]
    weights = np.linalg.solve(known.T @ known + RIDGE * np.eye(known.shape[1]), known.T @ wanted)

    nouns = net.drawable()
    nouns = [noun for noun, ids in zip(nouns, llama.ids(nouns), strict=True) if len(ids) <= MAX_PIECES]
    words = [word for word in chinese.words if word and all("\u4e00" <= c <= "\u9fff" for c in word)][:MAX_CHINESE]
    names = {text: found for text in captions if (found := net.names(text))}
    texts = {"en": captions, "zh": list(twins), "nouns": nouns, "words": words}
    rows = {
        "en": targets,
        "zh": wanted,
        "nouns": unit(english(nouns)),
        "words": unit(chinese(words) @ weights),
    }
    options.work.mkdir(parents=True, exist_ok=True)
    for name, value in (("knowledge", texts), ("names", names)):
        (options.work / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    save_file({name: value.astype(np.float16) for name, value in rows.items()}, options.work / "knowledge.safetensors")
    print({name: len(found) for name, found in texts.items()})


def _lines(path: Path) -> list[str]:
    """Without the licence at the head, whose lines begin with a space."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(" ")]


def _word2vec(path: Path) -> dict[str, np.ndarray]:
    """word2vec's binary format, rows of length 1."""
    found: dict[str, np.ndarray] = {}
    with path.open("rb") as file:
        count, dimension = map(int, file.readline().split())
        for _ in range(count):
            word = bytearray()
            while (byte := file.read(1)) != b" ":
                word += byte
            row = np.frombuffer(file.read(4 * dimension), dtype=np.float32)
            found[word.strip().decode("utf-8", "ignore")] = row / max(float(np.linalg.norm(row)), 1e-6)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "work", "wordllama", "wordnet", "unihan", "synonyms"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    build(parser.parse_args())


if __name__ == "__main__":
    main()
