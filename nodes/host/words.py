"""Which text encoder encoded a prompt, and for which one a model was trained: what belongs together knows it and says so."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import comfy.sd1_clip
import torch
from torch import Tensor

ENCODER_KEY = "layered_text_encoder"
"""In a CONDITIONING: the TextEncoder that encoded it, where that is one of the pack's own."""


class TextEncoder(NamedTuple):
    """A text encoder of one of the pack's files: what its weights are, and the file's name."""

    weights: str
    file: str


def text_encoder(file: str, tensors: Mapping[str, Tensor]) -> TextEncoder:
    """The mark of the text encoder with these weights."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return TextEncoder(digest.hexdigest(), file)


class MarkedTextModel(comfy.sd1_clip.SD1ClipModel):
    """ComfyUI's text model, which puts its mark on what it encodes."""

    text_encoder: TextEncoder | None = None

    def encode_token_weights(self, token_weight_pairs: Any) -> Any:
        tokens, pooled, *more = super().encode_token_weights(token_weight_pairs)
        return tokens, pooled, {**(more[0] if more else {}), ENCODER_KEY: self.text_encoder}


def check_words(encoded_by: TextEncoder | None, wanted: TextEncoder | None, who: str) -> None:
    """ValueError where a prompt was encoded by another text encoder than the one that `who` learnt with; None: not known."""
    if encoded_by and wanted and encoded_by.weights != wanted.weights:
        raise ValueError(f"The prompts were encoded with the CLIP of {encoded_by.file}, but {who} is from {wanted.file}, which "
                         "was trained with another CLIP. Connect the CLIP of the same model.")
