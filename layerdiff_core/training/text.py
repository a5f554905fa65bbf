"""The starter's words: a small subset of CLIP's vocabulary, so that ComfyUI's tokenizer works unchanged."""

import re
from collections.abc import Callable, Iterable

import numpy as np
import torch

LENGTH = 48
"""Tokens per prompt. Captions have 43 at most, so CLIP's 77 would mostly be padding. Longer prompts are split into chunks."""
UNKNOWN = 0


class Vocabulary:
    """The CLIP tokens that the starter has rows for. Row 0 stands for all other tokens.

    tokenize: returns a word's CLIP tokens. Words are tokenized one by one and cached. The result is the same as for the whole
    sentence, because CLIP's byte pairs never cross a word or a comma.
    """

    def __init__(self, tokenize: Callable[[str], list[int]], words: Iterable[str], start: int, end: int):
        self.tokenize = tokenize
        self.words: dict[str, list[int]] = {}
        known = sorted({token for word in words for token in tokenize(word)} | {start, end})
        self.token_ids = torch.tensor(known, dtype=torch.int32)
        self.row = {token: i + 1 for i, token in enumerate(known)}
        self.start, self.end = self.row[start], self.row[end]

    def __len__(self) -> int:
        return len(self.token_ids) + 1

    def rows(self, prompt: str) -> np.ndarray:
        """The rows of a prompt in ComfyUI's layout: start, words, then end tokens up to LENGTH."""
        ids = [self.start]
        for word in split_words(prompt):
            if word not in self.words:
                self.words[word] = [self.row.get(token, UNKNOWN) for token in self.tokenize(word)]
            ids += self.words[word]
        ids = ids[: LENGTH - 1]
        return np.array(ids + [self.end] * (LENGTH - len(ids)), dtype=np.int64)


def with_unknown(rows: np.ndarray, end: int, rng: np.random.Generator) -> np.ndarray:
    """A prompt's rows with an unknown word inserted, or unchanged if there is no room.

    Ours: users write words that appear in no caption. All of them become row UNKNOWN, which would otherwise never be trained.
    """
    length = int((rows != end).sum())
    if length >= len(rows) - 1:
        return rows
    return np.insert(rows[:-1], int(rng.integers(1, length + 1)), UNKNOWN)


def split_words(prompt: str) -> list[str]:
    """Split a prompt into words, numbers and punctuation marks."""
    return re.findall(r"[a-z]+|\d|[^\sa-z\d]+", prompt.lower())
