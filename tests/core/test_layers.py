"""The LAYERS document: made, checked, read, changed, placed."""

import copy
import math

import pytest
import torch

from layerdiff_core.layers import Document, Layer, change_layer, make_document
from layerdiff_core.placement import layer_pixels, place, upright
from tests.documents import alter, fields


def document(count: int = 3, height: int = 6, width: int = 8) -> Document:
    return make_document(torch.rand(count, height, width, 3), torch.rand(count, height, width), list("abcdef")[:count])


def only_layer(image: torch.Tensor, mask: torch.Tensor | None = None, **facts) -> Layer:
    """A single layer as it comes out of the socket."""
    return Document.from_socket({"version": 1, "layers": [{"image": image, "mask": mask, **facts}]}).layers[0]


def test_a_document_is_written_in_the_hosts_form():
    coverage = torch.rand(2, 5, 7)
    written = make_document(torch.rand(2, 5, 7, 3), coverage, ["ground", "cat"]).to_socket()
    assert written["version"] == 1 and written["canvas"] == (7, 5)
    assert [layer["z_index"] for layer in written["layers"]] == [0, 1]
    assert written["layers"][1].keys() == {
        "image", "mask", "name", "x", "y", "w", "h", "z_index", "opacity", "blend_mode", "rotation", "visible",
        "flip_h", "flip_v", "type",
    }  # fmt: skip
    assert torch.equal(written["layers"][1]["mask"], 1 - coverage[1:])  # 1 = transparent
    assert torch.allclose(Document.from_socket(written).layers[1].coverage, coverage[1:], atol=1e-6)


def test_a_round_trip_keeps_what_others_wrote_and_copies_nothing():
    image, mask = torch.rand(1, 4, 5, 4), torch.rand(1, 2, 2)
    given = {
        "version": 1, "canvas": [9, 8], "grid": "on",
        "layers": [{"image": image[..., :3], "mask": None, "z_index": 4, "locked": True},
                   {"image": image, "mask": mask, "name": "low", "x": 2.0, "rotation": 0.5, "flip_v": True}],
    }  # fmt: skip
    written = Document.from_socket(given).to_socket()
    assert written["grid"] == "on" and written["canvas"] == (9, 8)
    low, top = written["layers"]
    assert (low["name"], low["x"], low["rotation"], low["flip_v"], low["z_index"]) == ("low", 2, 0.5, True, 0)
    assert (top["locked"], top["z_index"], top["mask"]) == (True, 1, None) and "locked" not in low
    assert torch.equal(low["image"], image) and low["image"].data_ptr() == image.data_ptr()
    assert torch.equal(low["mask"], mask) and low["mask"].data_ptr() == mask.data_ptr()
    assert top["image"].data_ptr() == image.data_ptr()


def test_a_document_without_a_canvas_stays_without_one_and_grows():
    doc = Document.from_socket({"layers": [{"image": torch.rand(1, 4, 5, 3)}]})
    moved = change_layer(doc, 0, right=3)
    assert (doc.canvas, moved.canvas) == ((5, 4), (8, 4)) and "canvas" not in moved.to_socket()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("channels", "mask"), [(3, None), (3, (4, 5)), (3, (2, 2)), (4, None), (4, (4, 5)), (4, (2, 2))])
def test_transparency_is_the_opposite_of_coverage(channels, mask, dtype):
    layer = only_layer(torch.rand(1, 4, 5, channels).to(dtype), None if mask is None else torch.rand(1, *mask).to(dtype))
    coverage, through = layer.coverage, layer.transparency
    assert coverage.dtype == dtype and coverage.shape == (1, 4, 5)
    assert torch.allclose(1 - coverage, torch.zeros_like(coverage) if through is None else through, atol=1e-3)
    shown = upright(layer, (5, 4))
    assert shown.is_plain and shown.image.shape[-1] == 3
    assert (shown is layer) == (channels == 3 and mask != (2, 2))
    assert torch.allclose(shown.coverage, coverage, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "coverage", "names", "message"),
    [
        ((0, 4, 4, 3), (0, 4, 4), 0, "has 0 layers"),
        ((51, 4, 4, 3), (51, 4, 4), 51, "has 51 layers.*1 to 50"),
        ((2, 4, 4, 4), (2, 4, 4), 2, "expected \\[layers, height, width, 3\\]"),
        ((2, 3, 4, 4), (2, 4, 4), 2, "expected \\[layers, height, width, 3\\]"),
        ((4, 4, 3), (4, 4), 1, "expected \\[layers, height, width, 3\\]"),
        ((2, 4, 4, 3), (2, 4, 5), 2, "\\[2, 4, 5\\].*expected \\[2, 4, 4\\]"),
        ((2, 4, 4, 3), (3, 4, 4), 2, "\\[3, 4, 4\\].*expected \\[2, 4, 4\\]"),
        ((2, 4, 4, 3), (2, 4, 4), 3, "3 layer names for 2 layers"),
        ((1, 0, 4, 3), (1, 0, 4), 1, "\\[1, 0, 4, 3\\]"),
    ],
)
def test_what_cannot_be_a_document_is_refused(images, coverage, names, message):
    with pytest.raises(ValueError, match=message):
        make_document(torch.zeros(images), torch.zeros(coverage), ["x"] * names)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_with_the_layers_name(bad):
    images, coverage = torch.rand(2, 4, 4, 3), torch.rand(2, 4, 4)
    images[1, 2, 3, 0] = bad
    with pytest.raises(ValueError, match="image of layer 'cat'.*not finite"):
        make_document(images, coverage, ["ground", "cat"])
    doc = document()
    alter(doc, 2, mask=torch.full((1, 6, 8), bad))
    with pytest.raises(ValueError, match="mask of layer 'c'.*not finite"):
        doc.check_finite()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": torch.zeros(1, 4, 4, 2)}, "\\[1, 4, 4, 2\\] of float32 for an image"),
        ({"image": torch.zeros(4, 4, 3)}, "\\[4, 4, 3\\] of float32 for an image"),
        ({"image": None}, "NoneType for an image"),
        ({"image": "cat.png"}, "str for an image"),
        ({"mask": torch.zeros(1, 4, 4, 1)}, "\\[1, 4, 4, 1\\] of float32 for a mask"),
        ({"mask": torch.zeros(2, 4, 4)}, "\\[2, 4, 4\\] of float32 for a mask"),
        ({"mask": 3}, "int for a mask"),
        ({"opacity": 1.5}, "opacity 1.5.*between 0 and 1"),
        ({"opacity": -0.1}, "between 0 and 1"),
        ({"opacity": math.nan}, "opacity = nan"),
        ({"opacity": "full"}, "opacity = 'full'"),
        ({"rotation": math.inf}, "rotation = inf"),
        ({"x": "left"}, "x = 'left'"),
        ({"z_index": [1]}, "z_index = \\[1\\]"),
        ({"blend_mode": "dissolve"}, "Unknown blend mode 'dissolve'"),
        ({"name": 7}, "name 7"),
        ({"type": "text"}, "type 'text'.*raster"),
    ],
)
def test_a_layer_that_is_not_sound_is_refused(change, message):
    given = document().to_socket()
    given["layers"][1].update(change)
    with pytest.raises(ValueError, match=f"Item 2.*{message}|{message}"):
        Document.from_socket(given)


@pytest.mark.parametrize("value", [None, [], {}, {"layers": None}, {"version": 2, "layers": []}, {"layers": ["cat"]}])
def test_what_is_not_a_document_is_refused(value):
    with pytest.raises(ValueError, match="LAYERS document"):
        Document.from_socket(value)


@pytest.mark.parametrize("canvas", [(0, 4), (4, -1), (4,), "big", (16385, 4), (math.nan, 4)])
def test_an_absurd_canvas_is_refused(canvas):
    with pytest.raises(ValueError, match="canvas"):
        Document.from_socket(document().to_socket() | {"canvas": canvas})


def test_a_bare_layer_of_the_hosts_add_layer_node_gets_its_defaults():
    image = torch.rand(1, 4, 5, 3)
    layer = only_layer(image)
    assert fields(layer) == {
        "name": "Layer 1", "x": 0, "y": 0, "w": 5, "h": 4, "opacity": 1.0, "blend_mode": "normal", "rotation": 0.0,
        "visible": True, "flip_h": False, "flip_v": False,
    }  # fmt: skip
    assert layer.transparency is None and layer.coverage.eq(1).all()


def test_order_is_by_z_index_then_place_in_the_list_and_batches_expand():
    given = {
        "layers": [
            {"image": torch.rand(1, 2, 2, 3), "name": "top", "z_index": 5},
            {"image": torch.rand(3, 2, 2, 3), "mask": torch.rand(3, 2, 2), "name": "batch", "visible": False},
            {"image": torch.rand(2, 2, 2, 3), "mask": torch.rand(1, 2, 2), "name": "pair"},
            {"image": torch.rand(1, 2, 2, 3), "name": "bottom", "z_index": -1},
        ]
    }
    layers = Document.from_socket(given).layers
    assert [layer.name for layer in layers] == ["bottom", "batch", "batch", "batch", "pair", "pair", "top"]
    assert torch.equal(layers[2].image, given["layers"][1]["image"][1:2])
    assert torch.equal(layers[2].coverage, 1 - given["layers"][1]["mask"][1:2])
    assert torch.equal(layers[5].coverage, 1 - given["layers"][2]["mask"])
    assert not layers[2].visible


def test_fifty_layers_are_counted_over_batches():
    frames = {"image": torch.zeros(25, 1, 1, 3)}
    assert len(Document.from_socket({"layers": [frames, frames]}).layers) == 50
    with pytest.raises(ValueError, match="has 75 layers"):
        Document.from_socket({"layers": [frames, frames, frames]})


def test_coverage_multiplies_mask_and_alpha_and_stretches_a_small_mask():
    image = torch.rand(1, 4, 4, 4)
    mask = torch.rand(1, 4, 4)
    assert torch.allclose(only_layer(image, mask).coverage, image[..., 3] * (1 - mask))
    assert torch.equal(only_layer(image).coverage, image[..., 3])
    small = only_layer(image[..., :3], torch.full((1, 2, 2), 0.25)).coverage
    assert small.shape == (1, 4, 4) and torch.allclose(small, torch.full((1, 4, 4), 0.75))


def test_the_canvas_without_one_is_the_layers_extent():
    layers = [{"image": torch.zeros(1, 4, 6, 3), "x": 3, "y": -1}, {"image": torch.zeros(1, 2, 2, 3), "y": 9}]
    assert Document.from_socket({"layers": layers}).canvas == (9, 11)
    assert Document.from_socket({"layers": [{"image": torch.zeros(1, 2, 2, 3), "x": -5}]}).canvas == (1, 2)
    turned = {"image": torch.zeros(1, 4, 10, 3), "y": 3, "rotation": math.pi / 2}
    assert Document.from_socket({"layers": [turned]}).canvas == (7, 10)


def test_a_layer_that_only_moves_keeps_its_pixels_and_is_cropped():
    image, mask = torch.rand(1, 4, 6, 3), torch.rand(1, 4, 6)
    placed = place(only_layer(image, mask, x=-2, y=3), (10, 5))
    assert (placed.left, placed.top) == (0, 3)
    assert torch.equal(placed.image, image[:, :2, 2:])
    assert torch.equal(placed.coverage, 1 - mask[:, :2, 2:])


@pytest.mark.parametrize(("x", "y"), [(10, 0), (-6, 0), (0, 5), (0, -4)])
def test_a_layer_off_the_canvas_is_none(x, y):
    assert place(only_layer(torch.rand(1, 4, 6, 3), x=x, y=y), (10, 5)) is None


@pytest.mark.parametrize(
    ("fields", "turn"),
    [
        ({"flip_h": True}, lambda t: t.flip(2)),
        ({"flip_v": True}, lambda t: t.flip(1)),
        ({"rotation": math.pi / 2}, lambda t: t.rot90(-1, (1, 2))),  # clockwise
        ({"rotation": -math.pi / 2}, lambda t: t.rot90(1, (1, 2))),
        ({"rotation": math.pi, "flip_h": True}, lambda t: t.flip(1)),
        ({"rotation": math.pi / 2, "flip_h": True}, lambda t: t.flip(2).rot90(-1, (1, 2))),  # flips come first
    ],
)
def test_flips_and_quarter_turns_only_move_pixels(fields, turn):
    image, mask = torch.rand(1, 6, 6, 3), torch.rand(1, 6, 6) * 0.9
    placed = place(only_layer(image, mask, x=1, y=2, **fields), (20, 20))
    rows, columns = slice(2 - placed.top, 8 - placed.top), slice(1 - placed.left, 7 - placed.left)
    assert torch.allclose(placed.image[:, rows, columns], turn(image), atol=1e-5)
    assert torch.allclose(placed.coverage[:, rows, columns], turn(1 - mask), atol=1e-5)
    assert placed.coverage.sum().item() == pytest.approx((1 - mask).sum().item(), rel=1e-5)  # and nothing around them


def test_a_quarter_turn_of_an_oblong_goes_about_its_centre():
    image = torch.rand(1, 4, 10, 3)
    placed = place(only_layer(image, x=5, y=5, rotation=math.pi / 2), (30, 30))
    inside = placed.image[:, 2 - placed.top : 12 - placed.top, 8 - placed.left : 12 - placed.left]
    assert torch.allclose(inside, image.rot90(-1, (1, 2)), atol=1e-5)


@pytest.mark.parametrize(("w", "h"), [(24, 16), (13, 9), (6, 4), (3, 2), (24, 2)])
def test_a_resized_layer_fills_its_box_to_the_last_pixel(w, h):
    placed = place(only_layer(torch.full((1, 8, 12, 3), 0.6), x=2, y=1, w=w, h=h), (40, 30))
    assert (placed.left, placed.top) == (2, 1) and placed.coverage.shape == (1, h, w)
    assert torch.allclose(placed.coverage, torch.ones(1, h, w), atol=1e-6)
    assert torch.allclose(placed.image, torch.full((1, h, w, 3), 0.6), atol=1e-5)


def test_a_shrunken_layer_averages():
    torch.manual_seed(0)
    noise = torch.rand(1, 128, 128, 3)
    placed = place(only_layer(noise, w=16, h=16), (16, 16))
    assert (placed.image - 0.5).std() < 0.06  # four of its 64 pixels each would leave 0.14


def test_hidden_colours_never_show_in_a_turned_or_scaled_layer():
    image, mask = torch.zeros(1, 20, 20, 3), torch.ones(1, 20, 20)
    image[..., 1] = 1  # green where the layer is not
    image[:, 5:15, 5:15] = torch.tensor([1.0, 0.0, 0.0])
    mask[:, 5:15, 5:15] = 0
    placed = place(only_layer(image, mask, x=20, y=20, w=33, h=27, rotation=0.4), (80, 80))
    seen = placed.coverage > 1e-3
    assert seen.sum() > 100
    assert placed.image[..., 1][seen].max() < 1e-3


def test_a_turned_layer_covers_its_area_with_a_smooth_border():
    placed = place(only_layer(torch.ones(1, 40, 30, 3), x=30, y=30, rotation=0.3), (100, 100))
    assert placed.coverage.sum().item() == pytest.approx(1200, rel=0.005)
    assert ((placed.coverage > 0.05) & (placed.coverage < 0.95)).sum() > 50
    assert placed.image[placed.coverage > 0.01].min() > 0.999


def test_all_layers_lie_on_one_canvas():
    doc = document(2, 6, 8)
    alter(doc, 0, coverage=torch.ones(1, 6, 8))
    alter(doc, 1, x=3, y=-2, coverage=torch.ones(1, 6, 8), opacity=0.5)
    pictures, coverage = layer_pixels(doc)
    assert pictures.shape == (2, 6, 8, 3) and coverage.shape == (2, 6, 8)
    expected = torch.zeros(2, 6, 8)
    expected[0], expected[1, :4, 3:] = 1, 1
    assert torch.equal(coverage, expected)
    assert torch.allclose(pictures[0, 1:5, 1:7], doc.layers[0].image[0, 1:5, 1:7], atol=1e-6)
    assert torch.allclose(pictures[1, :3, 4:7], doc.layers[1].image[0, 2:5, 1:4], atol=1e-6)


def test_a_changed_layer_is_a_copy_and_the_others_stay():
    doc = document()
    before = copy.deepcopy(doc)
    changed = change_layer(
        doc, 1, name="dog", position=2, opacity=0.5, blend_mode="screen", visible=False,
        right=5, down=-2, scale=2.0, degrees=90.0,
    )  # fmt: skip
    for old, same in zip(before.layers, doc.layers):
        assert fields(old) == fields(same)
        assert torch.equal(old.image, same.image) and torch.equal(old.coverage, same.coverage)
    layers = changed.layers
    assert [layer.name for layer in layers] == ["a", "c", "dog"]
    dog = layers[2]
    assert (dog.opacity, dog.blend_mode, dog.visible) == (0.5, "screen", False)
    assert (dog.w, dog.h, dog.x, dog.y) == (16, 12, 5 - 4, -2 - 3)  # about the centre
    assert dog.rotation == pytest.approx(math.pi / 2)
    assert dog.image.data_ptr() == doc.layers[1].image.data_ptr()
    assert changed.canvas == doc.canvas


def test_defaults_change_nothing_and_positions_are_final():
    doc = document()
    assert [layer.name for layer in change_layer(doc, 1).layers] == ["a", "b", "c"]
    assert [layer.name for layer in change_layer(doc, 2, position=0).layers] == ["c", "a", "b"]
    assert [layer.name for layer in change_layer(doc, 0, position=49).layers] == ["b", "c", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": 3}, "no layer 3.*0 to 2"),
        ({"index": -1}, "no layer -1"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": math.nan}, "scale is nan"),
        ({"opacity": 2.0}, "opacity 2.0"),
        ({"blend_mode": "x"}, "Unknown blend mode"),
        ({"degrees": math.inf}, "rotation = inf"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change_layer(document(), **({"index": 0} | change))
