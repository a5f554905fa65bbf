"""Random graphs through the real server: no raw error from the pack. For more: python -m tools.random_prompts --count 3000"""

from pathlib import Path

import pytest

from tools.host import Server
from tools.random_graphs import LAYERDIFF, WORDS, random_graph
from tools.random_prompts import Raw, check, run_many


def test_no_random_graph_fails_with_a_raw_error(server: Server, served_models: Path) -> None:
    assert run_many(server, 200, 1) == []
    assert server.is_alive()


def test_graphs_are_those_of_their_seed_and_use_every_node_of_ours(server: Server) -> None:
    info = server.client.get("/object_info")
    graphs = [random_graph(info, f"1_{number}") for number in range(200)]
    assert graphs[7] == random_graph(info, "1_7") != graphs[8]
    used = {node["class_type"] for graph in graphs for node in graph.values()}
    assert {name for name in info if name.startswith("LayerDiff")} <= used and len(used) > 60
    values = [value for graph in graphs for node in graph.values() for value in node["inputs"].values()]
    assert LAYERDIFF in values and sum(word in values for word in WORDS) > len(WORDS) // 2


OURS = '  File "/x/custom_nodes/layerdiff/nodes/load.py", line 3, in execute\n    {}\n'
THEIRS = '  File "/x/comfy/sd.py", line 3, in encode\n    raise KeyError(key)\n'


@pytest.mark.parametrize("traceback, kind, is_raw", [
    ([THEIRS, OURS.format("raise ValueError(words)")], "LayerDiffLoadModel", False),
    ([THEIRS, OURS.format("return latent[key]")], "LayerDiffLoadModel", True),
    ([OURS.format("return clip.encode(text)"), THEIRS], "LayerDiffLoadModel", True),
    ([OURS.format("return executor(noise)"), THEIRS], "KSampler", True),
    ([THEIRS], "KSampler", False),
])
def test_a_raw_error_is_told_from_a_sentence(traceback: list[str], kind: str, is_raw: bool) -> None:
    failure = {"traceback": traceback, "node_type": kind, "node_id": "1", "exception_type": "KeyError", "exception_message": "k"}
    if is_raw:
        with pytest.raises(Raw, match="node 1"):
            check(failure)
    else:
        check(failure)
