"""Write the node texts of the page to `locales/en`, from the nodes' schemas: `python -m tools.locales`.

The English files are identical to the schemas. They exist for translators to copy, and to compare translations with their
source.
"""

import asyncio
import json
from types import ModuleType
from typing import Any

from . import inprocess, setup

ENGLISH = setup.ROOT / "locales" / "en"


def infos(pack: ModuleType) -> list[dict[str, Any]]:
    """The node information that ComfyUI sends to the page, for each node of the pack, in the pack's order."""
    nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    return [node.GET_NODE_INFO_V1() for node in nodes]


def inputs_of(info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A node's inputs with their options, without hidden inputs."""
    kinds = [info["input"].get(kind, {}) for kind in ("required", "optional")]
    return {name: spec[1] for kind in kinds for name, spec in kind.items()}


def files(pack: ModuleType) -> dict[str, dict[str, Any]]:
    """The locale files by name: nodeDefs.json, main.json."""
    described = {
        info["name"]: {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": {name: {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
                       for name, options in inputs_of(info).items()},
            "outputs": {str(number): {"name": name, "tooltip": tooltip} for number, (name, tooltip)
                        in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))},
        } for info in infos(pack)
    }
    categories = {part: part for info in infos(pack) for part in info["category"].split("/")}
    return {"nodeDefs.json": described,
            "main.json": {"nodeCategories": categories, "dataTypes": {name: name for name in ("LAYERS", "LAYER_ENHANCER")}}}


def text(content: dict[str, Any]) -> str:
    """A locale file's text."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    inprocess.import_host()
    for name, content in files(inprocess.load_pack()).items():
        (ENGLISH / name).write_text(text(content), "utf-8")


if __name__ == "__main__":
    main()
