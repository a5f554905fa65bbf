"""Starts a training from the weights of another model."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from .text import UNKNOWN, Vocabulary

EMBEDDING = "text.text_model.embeddings.token_embedding.weight"
TOKEN_IDS = "text.token_ids"
GATE = "enhancer.gate"


def start_from(parts: nn.Module, path: Path, vocabulary: Vocabulary) -> int:
    """Copy the weights of a layered model's file whose names and shapes match, and the rows of words that both know.

    All others are unchanged. So are the enhancer's gates, which should start open (ours). Returns the number of tensors copied.
    """
    tensors, own = load_file(path), parts.state_dict()
    rows, token_ids = tensors.pop(EMBEDDING), tensors.pop(TOKEN_IDS).tolist()
    tensors.pop(GATE, None)
    fitting = {name: value.float() for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    parts.load_state_dict(fitting, strict=False)
    table = own[EMBEDDING]
    with torch.no_grad():
        table[UNKNOWN] = rows[UNKNOWN]
        for row, token in enumerate(token_ids, start=1):
            if token in vocabulary.row:
                table[vocabulary.row[token]] = rows[row]
    return len(fitting)
