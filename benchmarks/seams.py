"""How well Heal Seams works: the error along the seams of scenes whose layers have the kind of defects that a model produces."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tools.objects import objects_file

from .compositing import core

SCENES = 60
SEED = 4
CANVAS = 128
BAND = 4
"""How many pixels on each side of a true edge are included in the error."""
# Objects after these are not the starter's, and the node's thresholds were not chosen with them.
KNOWN_OBJECTS = 160


@dataclass
class Case:
    """A scene: its true composite [1,H,W,3], its defective document, the area of its seams [H,W], and by how many pixels each
    foreground's mask is too large."""

    truth: Tensor
    document: Any
    band: Tensor
    offsets: list[int]


def cases(pack: ModuleType, vae: Any, folder: Path, count: int) -> list[Case]:
    """`count` scenes of 1 to 3 foregrounds, rendered from `folder`'s object images, always the same.

    Each foreground has its own background colour, as if cut out of another image, and a mask that is one or two pixels too large
    or too small. Image and mask go through the VAE and then through the steps of the node Decode Layers.
    """
    data, render, scenes = (core(pack, name) for name in ("world.objects", "world.render", "world.scenes"))
    training, renders = core(pack, "world.renderer"), core(pack, "evaluation.renders")
    every = data.load_objects(objects_file(folder))
    objects = data.ObjectSet(every.images[KNOWN_OBJECTS:], *(column[KNOWN_OBJECTS:] for column in
                                                             (every.names, every.prompts, every.homes)))
    renderer = renders.held_out_renderer(objects, folder, CANVAS, torch.device("cpu"))
    rng, generator = np.random.default_rng(SEED), torch.Generator().manual_seed(SEED)
    made = []
    for number in range(count):
        scene = scenes.sample_scene(rng, objects, 2 + number % 3)
        background, _ = renderer.places(1)
        facts = [[f.object, scene.style, scene.light, f.slot, f.size] for f in scene.foregrounds]
        pictures, coverages = renderer.foregrounds(training.Items(*torch.tensor(facts).unbind(1)))
        truth = render.compose(background, list(pictures.split(1)), list(coverages.split(1)))
        offsets = [(-2, -1, 1, 2)[n] for n in torch.randint(4, (len(pictures),), generator=generator).tolist()]
        document = spoil(pack, vae, background, pictures, coverages, offsets, generator)
        band = (grow(coverages, BAND) - grow(coverages, -BAND) > 0.5).any(0)[0]
        made.append(Case(truth.movedim(1, -1), document, band, offsets))
    return made


def spoil(pack: ModuleType, vae: Any, background: Tensor, pictures: Tensor, coverages: Tensor, offsets: list[int],
          generator: torch.Generator) -> Any:
    """A document of the layers with colour fringes. All [N,3|1,H,W], 0..1, the background [1,3,H,W]."""
    edges, layers = core(pack, "edges"), core(pack, "layers")
    foreign = torch.rand(len(pictures), 3, 1, 1, generator=generator)
    masks = torch.cat([grow(coverage[None], by) for coverage, by in zip(coverages, offsets)])
    on_foreign = coverages * pictures + (1 - coverages) * foreign
    decoded = through(vae, torch.cat([background, on_foreign, masks.expand(-1, 3, -1, -1)]))
    image, mask = decoded[: 1 + len(pictures)], decoded[1 + len(pictures) :]
    coverage = torch.cat([torch.ones_like(mask[:1, ..., 0]), edges.soft_threshold(mask, 0.5, 0.4)])
    image = edges.bleed_colours(image.movedim(-1, 1), coverage[:, None]).movedim(1, -1)
    return layers.make_document(image, coverage, [f"layer {k}" for k in range(len(image))])


def through(vae: Any, pictures: Tensor) -> Tensor:
    """Encode and decode images with the VAE: [N,3,H,W] -> [N,H,W,3]."""
    return vae.decode(vae.encode(pictures.movedim(1, -1)))[..., :3].float().cpu()


def grow(coverage: Tensor, by: int) -> Tensor:
    """Grow a mask [N,1,H,W] by `by` pixels on all sides, or shrink it if negative."""
    grown = F.max_pool2d(coverage if by > 0 else -coverage, 2 * abs(by) + 1, stride=1, padding=abs(by))
    return grown if by > 0 else -grown


def error(case: Case, image: Tensor) -> float:
    """The mean absolute difference from the true composite along the seams, out of 255."""
    return float((image - case.truth).abs()[0][case.band].mean()) * 255


def figures(pack: ModuleType, folder: Path, count: int = SCENES) -> dict[str, float]:
    """The mean error along the seams, before and after healing, over all scenes and over those whose masks are all too large or
    all too small."""
    vae = pack.nodes.load.LayerDiffLoadModel.execute(pack.nodes.load.STARTER).args[2]
    node, composite = pack.nodes.seams.LayerDiffHealSeams, core(pack, "composite").composite
    reach = next(entry.default for entry in node.define_schema().inputs if entry.id == "reach")
    found: dict[str, list[tuple[float, float]]] = {"": [], "_too_large": [], "_too_small": []}
    for case in cases(pack, vae, folder, count):
        healed = node.execute(case.document.to_socket(), reach, "display").args[1]
        pair = (error(case, composite(case.document)[0]), error(case, healed))
        found[""].append(pair)
        if min(case.offsets) > 0:
            found["_too_large"].append(pair)
        if max(case.offsets) < 0:
            found["_too_small"].append(pair)
    return {f"{side}{kind}": sum(pair[k] for pair in pairs) / len(pairs)
            for kind, pairs in found.items() if pairs for k, side in enumerate(("as_is", "healed"))}
