"""The starter's architecture: its widths, the size of its world, and the words it knows."""

from typing import Any

from ..world.backgrounds import PLACES
from ..world.objects import ObjectSet
from ..world.words import LIGHT_WORDS, SIZE_WORDS, SLOT_WORDS, STYLE_WORDS, names_of, places_of
from .text import LENGTH, split_words

CANVAS = 256
MAX_LAYERS = 4
CONTEXT = 192

ARCHITECTURE: dict[str, Any] = {
    "latent": {"channels": 32},
    "prediction": "v",
    "unet": {
        "image_size": 16, "model_channels": 64, "num_res_blocks": [1, 1, 1], "channel_mult": [1, 2, 2],
        "transformer_depth": [0, 1, 1], "transformer_depth_output": [0, 0, 1, 1, 1, 1],
        "transformer_depth_middle": 1, "num_heads": -1, "num_head_channels": 32, "use_spatial_transformer": True,
        "context_dim": CONTEXT,
    },
    "vae": {
        "patch": 8,
        "ddconfig": {"double_z": True, "resolution": 32, "ch": 96, "ch_mult": [1, 2], "num_res_blocks": 1,
                     "attn_resolutions": [], "dropout": 0.0},
        # Stronger than the encoder: ends at patches of 4, with one block per level and overlapping convolutions after it.
        "decoder": {"patch": 4, "features": 16, "width": 32,
                    "ddconfig": {"resolution": 64, "ch": 64, "ch_mult": [1, 2, 4], "num_res_blocks": 0}},
    },
    "text": {
        "num_hidden_layers": 2, "hidden_size": CONTEXT, "num_attention_heads": 6, "intermediate_size": 4 * CONTEXT,
        "hidden_act": "quick_gelu", "max_position_embeddings": LENGTH, "eos_token_id": 49407,
    },
    "enhancer": {"dim": CONTEXT, "heads": 6, "both_ways": True},
    "position": True,
}


def caption_words(objects: ObjectSet) -> set[str]:
    """All words that can appear in captions."""
    phrases = [name for index in range(len(objects)) for name in names_of(objects, index)] + ["a an the and with , ."]
    phrases += [words for group in (*STYLE_WORDS, *LIGHT_WORDS, *SLOT_WORDS, *SIZE_WORDS) for words in group]
    phrases += [phrase for name, place in PLACES.items() for phrase in (*places_of(name), place.preposition)]
    return {word for phrase in phrases for word in split_words(phrase)}
