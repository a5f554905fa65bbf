"""The evaluation's metrics: overlaps, framing, accuracies, distances, and scenes not used in training."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from layerdiff_core.evaluation import renders
from layerdiff_core.evaluation.fid import frechet_distance, picture_features
from layerdiff_core.evaluation.judge import Drawn, Judge, Verdict, figures, judge_scenes, load_judge, nearest_slots, worst_objects
from layerdiff_core.evaluation.requests import Request, held_out_requests, objects_named
from layerdiff_core.evaluator import CROP, GREY, Evaluator, framed, outline_window, overlap
from layerdiff_core.world.backgrounds import PLACES
from layerdiff_core.world.renderer import Renderer
from layerdiff_core.world.scenes import LIGHTS, Foreground, Scene, holds_held_out
from layerdiff_core.world.words import Told
from tests.world import discs

SIDE = 128
NAMES = [f"thing{number}" for number in range(10)]


def square(left: int, top: int, width: int, height: int) -> Tensor:
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., top:top + height, left:left + width] = 1
    return mask


class Colours(nn.Module):
    """A judge without training: tenths of red give the object, tenths of green the place, and blue is where the object is."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def thing_logits(self, picture: Tensor, coverage: Tensor) -> Tensor:
        red = (picture[:, :1] * coverage).sum((1, 2, 3)) / coverage.sum((1, 2, 3)).clamp_min(1)
        return nn.functional.one_hot((red * 10).round().long(), len(NAMES)).float()

    def place_logits(self, picture: Tensor) -> Tensor:
        return nn.functional.one_hot((picture[:, 1].mean((1, 2)) * 10).round().long(), len(PLACES)).float()

    def outline_logits(self, picture: Tensor, coverage: Tensor) -> Tensor:
        return (outline_window(picture[:, 2:], coverage) - 0.5) * 100


def painted(thing: int = 0, place: int = 0, outline: Tensor | None = None) -> Tensor:
    blue = torch.zeros(1, 1, SIDE, SIDE) if outline is None else outline
    return torch.cat([torch.full_like(blue, thing / 10), torch.full_like(blue, place / 10), blue], dim=1)


def request(place: str, *things: int) -> Request:
    nothing: list[int | None] = [None] * len(things)
    return Request(Scene(place, 0, 0, [Foreground(thing, 0, 0) for thing in things]), "", [""] * (1 + len(things)),
                   Told(nothing, nothing, None))


@pytest.fixture
def judge() -> Judge:
    return Judge(Colours(), NAMES, list(PLACES))  # type: ignore[arg-type]


def test_overlap_is_intersection_over_union() -> None:
    masks = torch.cat([square(0, 0, 40, 40), square(0, 0, 40, 40), square(0, 0, 10, 10), torch.zeros(1, 1, SIDE, SIDE)])
    others = torch.cat([square(0, 0, 40, 40), square(20, 0, 40, 40), square(60, 60, 10, 10), torch.zeros(1, 1, SIDE, SIDE)])
    assert overlap(masks, others).tolist() == pytest.approx([1, 1 / 3, 0, 1])


def test_framing_finds_the_thing_wherever_it_is() -> None:
    coverage = torch.cat([square(10, 20, 32, 32), square(80, 90, 32, 32), square(40, 8, 64, 64)])
    views = framed(coverage.expand(-1, 3, -1, -1) * 0.9 + GREY * (1 - coverage), coverage)
    assert views.shape == (3, 3, CROP, CROP)
    assert torch.allclose(views[0], views[1], atol=1e-4)
    assert views[:, :, CROP // 2, CROP // 2].min() > 0.89
    assert (views > 0.7).float().mean((1, 2, 3)).tolist() == pytest.approx([1 / 1.15**2] * 3, abs=0.03)


def test_verdicts_count_what_was_seen(judge: Judge) -> None:
    wanted = [request("beach", 3, 4), request("desert", 5, 6)]
    mask, half = square(0, 0, 40, 40), square(0, 0, 20, 40)
    own = torch.cat([painted(place=1), painted(outline=mask), painted(outline=half),
                     painted(place=2), painted(outline=mask), painted(outline=mask)])
    pictures = torch.cat([painted(place=1), painted(3, outline=mask), painted(4, outline=mask),
                          painted(place=2), painted(6, outline=half), painted(6, outline=mask)])
    full, empty = torch.ones_like(mask), mask * 0.4
    coverage = torch.cat([full, mask, mask, full, mask, empty])
    found = judge_scenes(judge, wanted, Drawn(3, own, pictures, coverage, pictures[::3]))
    assert [verdict.place for verdict in found] == ["beach", "sea"]
    assert [verdict.things for verdict in found] == [["thing3", "thing4"], ["thing6", None]]
    assert [verdict.slots for verdict in found] == [[0, 0], [0, None]]
    assert found[0].agreements == pytest.approx([1, 1]) and found[1].agreements == pytest.approx([0.5, 0])
    assert found[0].agreements_alone == pytest.approx([1, 0.5]) and found[1].agreements_alone == pytest.approx([1, 0])
    assert figures(judge, {3: found}) == {"layer_prompt_accuracy": {"3": 0.5}, "background_accuracy": {"3": 0.5},
                                          "mask_agreement": {"3": 0.625}, "mask_agreement_alone": {"3": 0.625},
                                          "slot_accuracy": {"3": 1.0}}
    assert worst_objects(judge, found) == {"thing5": {"accuracy": 0.0, "asked": 1, "seen_instead": "thing6"},
                                           "thing6": {"accuracy": 0.0, "asked": 1, "seen_instead": "nothing"}}


def test_things_stand_where_the_prompt_says(judge: Judge) -> None:
    things = [Foreground(thing, slot, 1) for slot, thing in enumerate([3, 1, 2])]
    asked = Request(Scene("beach", 0, 0, things), "", [""] * 4, Told([0, None, 2], [None] * 3, None))
    assert nearest_slots(torch.cat([square(10, 2, 20, 20), square(55, 0, 20, 9), square(90, 70, 20, 40)])) == [0, 1, 2]
    verdict = Verdict(asked, "beach", ["thing3"] * 3, [1.0] * 3, [1.0] * 3, slots=[0, 0, 1])
    assert figures(judge, {4: [verdict]})["slot_accuracy"] == {"4": 0.5}


def test_worst_objects_come_worst_first(judge: Judge) -> None:
    seen = ["thing1", "thing2", "thing2", "thing1", "thing3"]
    verdicts = [Verdict(request("beach", thing), "beach", [name], [1.0], [1.0], [0])
                for thing, name in zip([1, 1, 1, 2, 3], seen)]
    assert {name: facts["accuracy"] for name, facts in worst_objects(judge, verdicts).items()} == {
        "thing2": 0.0, "thing1": 0.3333}


def with_moments(mean: tuple[float, float], deviations: tuple[float, float], angle: float = 0.0) -> Tensor:
    """Four points of exactly this mean and these standard deviations along axes turned by the angle."""
    reach = math.sqrt(1.5)
    a, b = (deviation * reach for deviation in deviations)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    return torch.tensor([[a, 0], [-a, 0], [0, b], [0, -b]], dtype=torch.float64) @ turn + torch.tensor(mean)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_frechet_distance_of_gaussians(angle: float) -> None:
    # |(3, 4)|^2 + (1 - 3)^2 + (2 - 1)^2, whichever way both are turned
    first, second = with_moments((1, 1), (1, 2), angle), with_moments((4, 5), (3, 1), angle)
    assert frechet_distance(first, second) == pytest.approx(30)
    assert frechet_distance(second, first) == pytest.approx(30)


def test_frechet_distance_where_covariances_do_not_commute() -> None:
    # of 2 x 2 matrices, tr (A B)^1/2 = sqrt(tr(A B) + 2 sqrt(det(A B)))
    first, second = with_moments((0, 0), (1, 2)), with_moments((0, 0), (3, 1), 0.7)
    product = first.T.cov() @ second.T.cov()
    shared = math.sqrt(product.trace().item() + 2 * math.sqrt(torch.linalg.det(product).item()))
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 9 + 1 - 2 * shared)


def test_frechet_distance_of_few_pictures() -> None:
    features = torch.rand(5, 60, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features, features + 1) == pytest.approx(60, rel=1e-6)


def test_requests_are_held_out_and_repeat() -> None:
    objects = discs(40, 16)
    for layers in (2, 3, 4):
        asked = held_out_requests(objects, layers, 12, seed=5)
        assert asked == held_out_requests(objects, layers, 12, seed=5) != held_out_requests(objects, layers, 12, seed=6)
        assert all(holds_held_out(each.scene, objects) for each in asked)
        assert all(len(each.prompts) == len(each.lines().splitlines()) == layers for each in asked)
        assert all(objects.names[thing] in prompt for each in asked for thing, prompt in zip(each.objects, each.prompts[1:]))


def test_objects_come_in_the_judges_order() -> None:
    objects = discs(6, 16)
    chosen = objects_named(objects, ["thing4", "thing1"])
    assert chosen.names == ["thing4", "thing1"] and chosen.images.shape[:2] == (2, 1)
    assert torch.equal(chosen.images[0], objects.images[4, :1]) and chosen.homes[1] == objects.homes[1]
    with pytest.raises(ValueError, match="thing9, which the object pictures lack"):
        objects_named(objects, ["thing9"])


def test_a_judge_is_read_back(tmp_path: Path) -> None:
    evaluator = Evaluator(3, len(PLACES))
    path = tmp_path / "evaluator.safetensors"
    weights = {name: tensor.half() for name, tensor in evaluator.state_dict().items()}
    save_file(weights, path, metadata={"objects": json.dumps(NAMES[:3]), "places": json.dumps(list(PLACES))})
    judge = load_judge(path, torch.device("cpu"))
    assert judge.objects == NAMES[:3] and judge.evaluator.thing.head.weight.dtype == torch.float32
    save_file(weights, path, metadata={"objects": json.dumps(NAMES[:3]), "places": json.dumps(["beach"])})
    with pytest.raises(ValueError, match=r"evaluator\.safetensors was trained on other places"):
        load_judge(path, torch.device("cpu"))


def test_renders_repeat_and_show_the_place() -> None:
    objects, places = discs(40, 64), list(PLACES)
    pairs = torch.cartesian_prod(torch.arange(len(places)), torch.arange(len(LIGHTS)))
    pictures = pairs[:, :1, None, None].expand(-1, 64, 64, 3).byte()
    bank = {"pictures": pictures, "place": pairs[:, 0], "light": pairs[:, 1]}
    once, again = (renders.render(Renderer(objects, bank, 64, torch.device("cpu"), 3), 3, 8, 9) for _ in range(2))
    assert once.shape == (8, 3, 64, 64) and torch.equal(once, again)
    shown = (once[:, 0].flatten(1).mode().values * 255).round().tolist()
    assert shown == [places.index(each.scene.place) for each in held_out_requests(objects, 3, 8, 9)]
    features = picture_features(Evaluator(4, len(places)), once)
    assert features.shape == (8, 288) and features.dtype == torch.float64
