"""LayerDiffuse's shared attention against a second, plain reference, written from the description of the files."""

import copy
import functools
import math

import pytest
import torch
from torch import Tensor

from layerdiff_core.layerdiffuse import BG2FG, BLOCKS, FG2BG, JOINT, TRANSPARENT, FrameNetwork, Kind, in_our_order, on_grey
from tests import published
from tests.published import HALF, HEADS, plain_attention, reference

KINDS = {"joint": JOINT, "fg2bg": FG2BG, "bg2fg": BG2FG, "transparent_attn": TRANSPARENT}
WIDTH, CONTEXT = 32, 24


@functools.cache
def network_of(name: str) -> tuple[FrameNetwork, dict[str, Tensor]]:
    """The network of a file of random numbers, in float32, and the file's tensors."""
    tensors = {key: value.float() for key, value in published.random_tensors(published.shapes(name, WIDTH, CONTEXT)).items()}
    with torch.device("meta"):
        network = FrameNetwork(KINDS[name], [WIDTH, 2 * WIDTH, 4 * WIDTH, 4 * WIDTH], CONTEXT)
    network.load_state_dict(in_our_order(KINDS[name], tensors), assign=True)
    return network.requires_grad_(False), tensors


@pytest.mark.parametrize("name", KINDS)
def test_the_published_keys_and_shapes_at_the_true_size(name: str) -> None:
    wanted = published.shapes(name)
    with torch.device("meta"):
        network = FrameNetwork(KINDS[name], [320, 640, 1280, 1280], 768)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == wanted
    assert len(wanted) == published.COUNTS[name]
    megabytes = {"joint": 554, "fg2bg": 563, "bg2fg": 563, "transparent_attn": 350}[name]
    assert round(sum(math.prod(shape) for shape in wanted.values()) * 2 / 1e6) == megabytes


@pytest.mark.parametrize("cross", [False, True], ids=["attn1", "attn2"])
@pytest.mark.parametrize("block", [("input", 2), ("output", 5), ("middle", 0)], ids=str)
@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_a_unit_is_what_the_description_says(name: str, block: tuple[str, int], cross: bool) -> None:
    network, tensors = network_of(name)
    kind, number = KINDS[name], 2 * list(BLOCKS).index(block) + cross
    unit, frames, scenes = network.unit(block, cross), len(KINDS[name].frames), 2
    torch.manual_seed(1)
    h, w, dim = 3, 2, [WIDTH, 2 * WIDTH, 4 * WIDTH, 4 * WIDTH][BLOCKS[block]]
    x = torch.randn(scenes * frames, h * w, dim)
    text = torch.randn(scenes * frames, 5, CONTEXT) if cross else None
    signal = torch.randn(1, 256, h, w) if kind.given else None
    base = {part: torch.randn(dim, CONTEXT if cross and part in "kv" else dim) * dim**-0.5 for part in ("q", "k", "v", "out")}
    base["bias"] = torch.randn(dim)

    y = unit.guided(x, None if signal is None else unit.features(signal))
    source = y if text is None else text
    q, k, v = (part @ base[name].T + unit.change(name, part) for name, part in (("q", y), ("k", source), ("v", source)))
    o = torch.stack([plain_attention(*parts) for parts in zip(q, k, v)])
    out = unit.joined(y + o @ base["out"].T + base["bias"] + unit.change("out", o), HEADS) - x

    for scene in range(scenes):
        rows = [scene * frames + kind.frames.index(frame) for frame in kind.in_file]
        texts = None if text is None else [text[row] for row in rows]
        wanted = reference(tensors, number, base, [x[row] for row in rows], texts, signal)
        for row, part in zip(rows, wanted):
            assert part.std() > 0.3
            assert (out[row] - part).abs().max() < 1e-5 * max(1, part.abs().max())


@torch.inference_mode()
def test_the_signals_are_what_the_description_says() -> None:
    network, tensors = network_of("fg2bg")
    image = torch.rand(1, 3, 72, 104, generator=torch.Generator().manual_seed(0))
    wanted = published.plain_signals(tensors, image)
    for number, (found, h) in enumerate(zip(network.signals(image), wanted, strict=True)):
        assert found.shape[2:] == (-(-9 // 2**number), -(-13 // 2**number))
        assert (found - h).abs().max() < 1e-5


@pytest.mark.parametrize("half", HALF, ids=str)
@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_half_precision(name: str, half: torch.dtype) -> None:
    """All frames of a scene."""
    network, _ = network_of(name)
    torch.manual_seed(2)
    frames = len(KINDS[name].frames)
    x, signal = torch.randn(frames, 6, 4 * WIDTH), torch.randn(1, 256, 3, 2) if KINDS[name].given else None

    def joined(kind: torch.dtype) -> Tensor:
        unit = copy.deepcopy(network.unit(("middle", 0), False)).to(kind)
        y = unit.guided(x.to(kind), None if signal is None else unit.features(signal.to(kind)))
        return unit.joined(y + unit.change("q", y), HEADS).float()

    wanted = joined(torch.float32)
    assert (joined(half) - wanted).abs().max() < HALF[half] * wanted.abs().max()


def test_frames_and_layers() -> None:
    assert JOINT.drawn == JOINT.layers == ("background", "foreground")
    assert (FG2BG.drawn, BG2FG.drawn, TRANSPARENT.drawn) == (("background",), ("foreground",), ("foreground",))
    assert FG2BG.layers == BG2FG.layers == ("background", "foreground") and TRANSPARENT.layers == ("foreground",)


def test_the_order_of_frames_is_turned_for_joint_alone() -> None:
    def numbered(kind: Kind) -> dict[str, int]:
        keys = [f"hookers.layers.3.to_q_lora.{n}.up.weight" for n in range(len(kind.frames))]
        found = in_our_order(kind, {key: torch.tensor(n) for n, key in enumerate(keys)})
        return {key: int(value) for key, value in sorted(found.items())}

    assert list(numbered(JOINT).values()) == [1, 0, 2]
    assert list(numbered(FG2BG).values()) == list(numbered(BG2FG).values()) == [0, 1]


def test_transparent_pixels_lie_on_grey() -> None:
    picture = torch.tensor([0.0, 0.5, 1.0]).expand(1, 1, 3, 3)
    assert torch.equal(on_grey(picture, torch.zeros(1, 1, 3)), torch.full((1, 1, 3, 3), 0.5))
    assert torch.equal(on_grey(picture, None), picture)
    assert torch.allclose(on_grey(picture, torch.full((1, 1, 3), 0.5)), 0.25 + picture / 2)
