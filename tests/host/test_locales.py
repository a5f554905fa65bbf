"""Node texts in the page: the English locale matches the schemas, and every node has a help page."""

import re
from types import ModuleType

from tools import locales, setup

DOCS = setup.ROOT / "web" / "docs"
PICTURES = DOCS / "images"
LARGEST_PICTURE_BYTES = 25_000
SECTIONS = ("## Inputs", "## Outputs", "## Example", "## Errors")


def test_the_english_locale_is_what_the_schemas_say(pack: ModuleType) -> None:
    for name, content in locales.files(pack).items():
        written = (locales.ENGLISH / name).read_text("utf-8")
        assert written == locales.text(content), f"locales/en/{name} is out of date: run python -m tools.locales"


def test_no_text_holds_what_the_page_takes_for_a_placeholder(pack: ModuleType) -> None:
    texts = re.findall(r'": "(.*)"', locales.text(locales.files(pack)["nodeDefs.json"]))
    assert texts
    assert [text for text in texts if re.search(r"[{}@|]", text)] == []


def test_every_node_has_a_help_page_that_knows_its_inputs_and_outputs(pack: ModuleType) -> None:
    infos = locales.infos(pack)
    assert {path.stem for path in DOCS.glob("*.md")} == {info["name"] for info in infos}
    for info in infos:
        page = (DOCS / f"{info['name']}.md").read_text("utf-8")
        assert page.startswith(f"# {info['display_name']}\n"), info["name"]
        assert [section for section in SECTIONS if section not in page] == [], info["name"]
        inputs, outputs = page.partition("## Inputs")[2].split("## Outputs")
        outputs = outputs.partition("## ")[0]
        # One row for each, and none for inputs that no longer exist.
        assert re.findall(r"^\| `(.+?)` \|", inputs, re.M) == list(locales.inputs_of(info)), info["name"]
        assert re.findall(r"^\| `(.+?)` \|", outputs, re.M) == info["output_name"], info["name"]


def test_every_help_page_begins_with_the_picture_of_its_node(pack: ModuleType) -> None:
    assert {path.name for path in PICTURES.iterdir()} == {f"{info['name']}.webp" for info in locales.infos(pack)}
    for info in locales.infos(pack):
        title, node = info["display_name"], info["name"]
        page = (DOCS / f"{node}.md").read_text("utf-8")
        assert page.startswith(f"# {title}\n\n![The node {title}](images/{node}.webp)\n\n"), node
        assert (PICTURES / f"{node}.webp").stat().st_size < LARGEST_PICTURE_BYTES, node
