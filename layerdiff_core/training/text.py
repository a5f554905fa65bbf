"""Words for the starter: a small vocabulary inside CLIP's own, so that ComfyUI's tokenizer serves unchanged."""

import re
from collections.abc import Callable, Iterable

import numpy as np
import torch

LENGTH = 48
"""Tokens of a prompt; captions have 43 at most. CLIP's 77 would be mostly padding to compute. Longer prompts come in pieces."""
UNKNOWN = 0


class Vocabulary:
    """The CLIP tokens that the starter has rows for. Row 0 stands for every other token.

    `tokenize` gives a word's CLIP tokens; words are looked up one by one and remembered, which gives what the
    tokenizer gives for the whole sentence, since CLIP's byte pairs never cross a word or a comma.
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
        """Rows of a prompt as ComfyUI would lay it out: start, words, then the end token up to LENGTH."""
        ids = [self.start]
        for word in split_words(prompt):
            if word not in self.words:
                self.words[word] = [self.row.get(token, UNKNOWN) for token in self.tokenize(word)]
            ids += self.words[word]
        ids = ids[: LENGTH - 1]
        return np.array(ids + [self.end] * (LENGTH - len(ids)), dtype=np.int64)


def with_unknown(rows: np.ndarray, end: int, rng: np.random.Generator) -> np.ndarray:
    """A prompt's rows with one word among them that the starter does not know; as they are where there is no room.

    Ours: users write words that no caption has, and these all come as row UNKNOWN, which otherwise never were trained.
    """
    length = int((rows != end).sum())
    if length >= len(rows) - 1:
        return rows
    return np.insert(rows[:-1], int(rng.integers(1, length + 1)), UNKNOWN)


def split_words(prompt: str) -> list[str]:
    """Words, numbers and punctuation, each alone."""
    return re.findall(r"[a-z]+|\d|[^\sa-z\d]+", prompt.lower())
