"""Warnings of a node, shown on the node in the page and in ComfyUI's log."""

import logging
from typing import Any


def warnings_ui(texts: list[str]) -> dict[str, Any]:
    """The part of a node's ui that the page shows as warnings: {"warnings": [texts]}."""
    for text in texts:
        logging.warning("LayerDiff: %s", text)
    return {"warnings": [texts]}
