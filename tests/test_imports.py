"""Imports go one way: no cycles, no imports between node files, and a core that imports neither ComfyUI nor nodes."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("nodes", "layerdiff_core", "tools", "benchmarks", "tests")
LINK = "layerdiff_pack"
"""The name under which the training tools see the whole pack as a package."""

OUTSIDE_THE_CORE = {"nodes", "tools", "benchmarks", "tests", "comfy", "comfy_api", "comfy_extras", "comfy_execution",
                    "folder_paths", "execution", "server", "latent_preview", "node_helpers", "app"}


def sources() -> dict[str, str]:
    """Every module of the repository by its dotted name, the root's being empty, and its text."""
    paths = [ROOT / "__init__.py", ROOT / "dev.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
    parts = {path: [*path.relative_to(ROOT).parent.parts, *([path.stem] if path.stem != "__init__" else [])] for path in paths}
    return {".".join(parts[path]): path.read_text("utf-8") for path in paths}


def imported(name: str, text: str) -> set[str]:
    """Dotted names of what a module imports, wherever in it; relative names are resolved from the repository's root."""
    folder = [part for part in name.split(".") if part]
    if not ROOT.joinpath(*folder).is_dir():
        folder.pop()
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            around = folder[: len(folder) - node.level + 1] if node.level else []
            found |= {".".join([*around, *filter(None, [node.module]), alias.name]) for alias in node.names}
    return {one.removeprefix(f"{LINK}.") for one in found}


def module_of(name: str, modules: set[str]) -> str | None:
    """The module of ours that an imported name is, or is defined in; None for a foreign one."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Every module of ours, with those of ours that it imports."""
    texts = sources()
    found = {}
    for name, text in texts.items():
        # A package that a module lies in is imported by itself, and is empty.
        around = {".".join(name.split(".")[:k]) for k in range(1, name.count(".") + 2)}
        ours = {module_of(one, set(texts)) for one in imported(name, text)}
        found[name] = {one for one in ours if one is not None and one not in around}
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """An import cycle, with the first module repeated at the end; empty if there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same between folders such as layerdiff_core/training; what lies directly in a top folder counts by itself."""
    room = {name: ".".join(name.split(".")[:2]) for name in graph}
    return {one: {room[other] for name in graph if room[name] == one for other in graph[name]} - {one} for one in room.values()}


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
    apart = {"core.training.a": {"core.judge.b"}, "core.judge.b": set(), "core.judge.c": {"core.training.a"}}
    assert circle(apart) == [] and set(circle(rooms(apart))) == {"core.training", "core.judge"}


def test_imports_are_seen(graph: dict[str, set[str]]) -> None:
    assert {"nodes.load", "nodes.host.folders"} <= graph["nodes.extension"] and "nodes.extension" in graph[""]
    assert "layerdiff_core.layers" in graph["nodes.save"] and "layerdiff_core.files.psd" in graph["nodes.exchange"]
    assert "layerdiff_core.evaluator" in graph["tools.train_starter"] and "tools.setup" in graph["dev"]
    assert "layerdiff_core.edges" in graph["layerdiff_core.world.render"]


def test_no_module_imports_itself_by_a_detour(graph: dict[str, set[str]]) -> None:
    assert circle(graph) == []


def test_no_folder_imports_itself_by_a_detour(graph: dict[str, set[str]]) -> None:
    assert circle(rooms(graph)) == []


def test_no_node_file_borrows_from_another(graph: dict[str, set[str]]) -> None:
    files = {name for name, text in sources().items() if name.startswith("nodes.") and "\nNODES = [" in text}
    assert len(files) > 9 and {"nodes.composite", "nodes.save", "nodes.exchange"} <= files
    borrowed = {name: graph[name] & files for name in graph if name.startswith("nodes.") and graph[name] & files}
    assert borrowed.keys() == {"nodes.extension"}, "only the list of nodes knows all of them"


@pytest.mark.parametrize(("room", "above"), [
    ("world", ("evaluation", "training", "datasets")), ("evaluation", ("training",)),
    ("datasets", ("world", "evaluation", "training")),
])
def test_rooms_of_the_core_build_on_each_other(graph: dict[str, set[str]], room: str, above: tuple[str, ...]) -> None:
    inside = {name: found for name, found in graph.items() if name.startswith(f"layerdiff_core.{room}.")}
    assert inside
    higher = tuple(f"layerdiff_core.{each}." for each in above)
    assert [(name, one) for name, found in inside.items() for one in found if one.startswith(higher)] == []


def test_the_core_knows_neither_host_nor_nodes() -> None:
    for name, text in sources().items():
        if name.startswith("layerdiff_core"):
            seen = {one.split(".")[0] for one in imported(name, text)}
            assert not seen & OUTSIDE_THE_CORE, name
