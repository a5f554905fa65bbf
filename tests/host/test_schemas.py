"""What saved workflows rely on: node ids, sockets, their order, types and defaults stay for ever.

A new node or a new optional input at the end breaks no workflow: write schemas.json again from `described`. Anything
else that makes this fail breaks workflows that people have.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import nodes

SNAPSHOT = Path(__file__).with_name("schemas.json")


def all_nodes(pack: ModuleType) -> list[Any]:
    names = ("load", "layerdiffuse", "prompts", "latents", "sample", "keep", "decode", "composite", "seams", "save", "exchange",
             "train")
    return [node for name in names for node in getattr(pack.nodes, name).NODES]


def described(pack: ModuleType) -> dict[str, Any]:
    """Every node's sockets as the page and saved workflows see them."""
    nodes = {}
    for node in all_nodes(pack):
        schema = node.GET_SCHEMA()
        nodes[schema.node_id] = {
            "inputs": [[entry.id, entry.io_type, getattr(entry, "default", None)] for entry in schema.inputs],
            "optional": [entry.id for entry in schema.inputs if entry.optional],
            "outputs": [[entry.display_name or entry.io_type, entry.io_type] for entry in schema.outputs],
        }
    return nodes


def test_nodes_and_sockets_stay(pack: ModuleType) -> None:
    assert described(pack) == json.loads(SNAPSHOT.read_text("utf-8"))


def test_a_changed_default_would_be_found(pack: ModuleType) -> None:
    kept = json.loads(SNAPSHOT.read_text("utf-8"))
    kept["LayerDiffSMGKSampler"]["inputs"][6][2] = 21
    assert described(pack) != kept


def test_ids_and_classes_agree(pack: ModuleType) -> None:
    for node in all_nodes(pack):
        assert node.GET_SCHEMA().node_id == node.__name__


def test_nodes_explain_themselves(pack: ModuleType) -> None:
    for node in all_nodes(pack):
        schema = node.GET_SCHEMA()
        assert schema.category.startswith("LayerDiff/"), schema.node_id
        assert schema.description and schema.search_aliases and schema.display_name, schema.node_id
        for entry in [*schema.inputs, *schema.outputs]:
            assert entry.tooltip, f"{schema.node_id}: {entry.id or entry.io_type} has no tooltip"


def test_the_host_lists_exactly_these(pack: ModuleType) -> None:
    registered = {name for name in nodes.NODE_CLASS_MAPPINGS if name.startswith("LayerDiff")}
    assert registered == {node.GET_SCHEMA().node_id for node in all_nodes(pack)}

