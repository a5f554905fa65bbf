"""Names of saved files take dates and other nodes' values, as the host's Save Image does."""

import datetime
from typing import Any

import pytest
from playwright.sync_api import Page

# Two nodes are compared, ours with the host's.
NAMES = """async ([ours, prefix]) => {
    app.graph.clear();
    const picture = LiteGraph.createNode("EmptyImage");
    app.graph.add(picture);
    picture.widgets.find((widget) => widget.name === "width").value = 48;
    for (const type of [ours, "SaveImage"]) {
        const node = LiteGraph.createNode(type);
        app.graph.add(node);
        const widget = node.widgets.find((each) => each.name === "filename_prefix");
        widget.value = prefix;
    }
    const prompt = Object.values((await app.graphToPrompt()).output);
    return prompt.filter((node) => "filename_prefix" in node.inputs).map((node) => node.inputs.filename_prefix);
}"""


@pytest.mark.parametrize("node", ["LayerDiffSaveLayers", "LayerDiffExportLayers"])
def test_names_are_filled_in_as_for_the_hosts_own_node(page: Page, node: str) -> None:
    names: list[Any] = page.evaluate(NAMES, [node, "%date:yyyy%/%EmptyImage.width%_x"])
    assert names[0] == names[1]
    assert names[0] in {f"{datetime.date.today().year + more}/48_x" for more in (0, -1)}
