"""Marks prompts with the text encoder that encoded them, and checks that a model was trained with that text encoder."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.sd1_clip
import torch
from torch import Tensor

ENCODER_KEY = "layered_text_encoder"
"""Key in a CONDITIONING: the TextEncoder that encoded it, if it is one of the pack's own."""


WORD_END = "</w>"


class TextEncoder(NamedTuple):
    """A text encoder from one of the pack's files: a hash of its weights, and the file's name."""

    weights: str
    file: str


def text_encoder(file: str, tensors: Mapping[str, Tensor]) -> TextEncoder:
    """The mark for the text encoder with these weights."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return TextEncoder(digest.hexdigest(), file)


class MarkedTextModel(comfy.sd1_clip.SD1ClipModel):
    """ComfyUI's text model, extended to mark the conditioning it encodes."""

    text_encoder: TextEncoder | None = None
    known_tokens: frozenset[int] | None = None

    def encode_token_weights(self, token_weight_pairs: Any) -> Any:
        tokens, pooled, *more = super().encode_token_weights(token_weight_pairs)
        return tokens, pooled, {**(more[0] if more else {}), ENCODER_KEY: self.text_encoder}


def check_words(encoded_by: TextEncoder | None, wanted: TextEncoder | None, who: str) -> None:
    """ValueError if a prompt was encoded by a text encoder other than the one `who` was trained with. None means unknown."""
    if encoded_by and wanted and encoded_by.weights != wanted.weights:
        raise ValueError(f"The prompts were encoded with the CLIP of {encoded_by.file}, but {who} is from {wanted.file}, which "
                         "was trained with another CLIP. Connect the CLIP of the same model.")


def unknown_words(clip: Any, prompt: str) -> list[str]:
    """The words of a prompt that a small text encoder does not know, in order; none for a CLIP with a full vocabulary."""
    known = getattr(clip.cond_stage_model, "known_tokens", None)
    if known is None:
        return []
    found, word, unknown = [], "", False
    for part in clip.tokenize(prompt)["l"]:
        for (token, *_), text in clip.tokenizer.untokenize(part):
            if not isinstance(token, int):
                continue  # a textual inversion embedding
            word, unknown = word + text.removesuffix(WORD_END), unknown or token not in known
            if text.endswith(WORD_END):
                found += [word] if unknown else []
                word, unknown = "", False
    return found
