"""Small networks, trained on separate renders, that judge what a model generated: which object, which place, where."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CROP = 96
PLACE_SIDE = 64
MARGIN = 1.15
WIDE_MARGIN = 1.5
GREY = 0.5


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU())


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(conv(width, width), conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Classifier(nn.Module):
    """A small residual network; `features` before the last layer also serve as FID's feature extractor."""

    def __init__(self, classes: int, width: int = 32):
        super().__init__()
        widths = (width, 2 * width, 4 * width, 6 * width)
        blocks: list[nn.Module] = [conv(3, width, 2)]
        for a, b in zip(widths, widths[1:]):
            blocks += [Residual(a), conv(a, b, 2)]
        self.body = nn.Sequential(*blocks, Residual(widths[-1]))
        self.head = nn.Linear(widths[-1], classes)

    def features(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] in 0..1 -> [N, 6 * width]."""
        return self.body(pixels * 2 - 1).mean((2, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.features(pixels))


class Segmenter(nn.Module):
    """Finds the generated object in an image, without seeing the layer's mask."""

    def __init__(self, width: int = 24):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 6 * width]
        self.first = conv(12, width)
        self.down = nn.ModuleList(nn.Sequential(conv(a, b, 2), Residual(b)) for a, b in zip(widths, widths[1:]))
        self.up = nn.ModuleList(nn.Sequential(conv(b + a, a), Residual(a)) for a, b in reversed(list(zip(widths, widths[1:]))))
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """[N, 3, H, W] in 0..1, H and W multiples of 16 -> logits [N, 1, H, W]."""
        x = self.first(F.pixel_unshuffle(pixels * 2 - 1, 2))
        skips = [x]
        for down in self.down:
            x = down(x)
            skips.append(x)
        skips.pop()
        for up in self.up:
            x = up(torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skips.pop()], dim=1))
        return F.pixel_shuffle(self.last(x), 2)


class Evaluator(nn.Module):
    """Names the object of a layer and the place, and finds the object's outline. Ours: no public model needs to be downloaded."""

    def __init__(self, objects: int, places: int):
        super().__init__()
        self.thing = Classifier(objects)
        self.place = Classifier(places, width=16)
        self.outline = Segmenter()

    def thing_logits(self, picture: Tensor, coverage: Tensor) -> Tensor:
        """Logits for layers [N, 3, H, W] with coverage [N, 1, H, W]: cut out by the mask, framed, on grey."""
        return self.thing(cut_out(picture, coverage))

    def place_logits(self, picture: Tensor) -> Tensor:
        """Logits for places [N, 3, H, W] in 0..1."""
        return self.place(F.interpolate(picture, (PLACE_SIDE, PLACE_SIDE), mode="area"))

    def outline_logits(self, picture: Tensor, coverage: Tensor) -> Tensor:
        """Logits [N, 1, 96, 96] of where the object is in images [N, 3, H, W] in 0..1. Looks at a window around the mask, half
        as large again, like segmenters that are prompted with a box. `outline_window` crops masks in the same way."""
        return self.outline(framed(picture, coverage, WIDE_MARGIN))


def cut_out(picture: Tensor, coverage: Tensor) -> Tensor:
    """Layers [N, 3, H, W] cut out by their coverage [N, 1, H, W], framed, on grey: [N, 3, 96, 96]."""
    return framed(picture * coverage + GREY * (1 - coverage), coverage)


def outline_window(mask: Tensor, coverage: Tensor) -> Tensor:
    """A mask [N, 1, H, W] cropped to the window in which the outline is found: [N, 1, 96, 96]."""
    return framed(mask, coverage, WIDE_MARGIN, outside=0)


def framed(picture: Tensor, coverage: Tensor, margin: float = MARGIN, outside: float = GREY) -> Tensor:
    """A square crop around the masked area, scaled to 96 pixels. [N, C, H, W], [N, 1, H, W] -> [N, C, 96, 96].

    margin: the crop's side relative to the object's longest side. outside: the value beyond the edge of the image.
    """
    left, right = _ends((coverage[:, 0] > 0.5).any(1))
    top, bottom = _ends((coverage[:, 0] > 0.5).any(2))
    half = torch.maximum(right - left, bottom - top) / 2 * margin
    zero = torch.zeros_like(half)
    theta = torch.stack([torch.stack([half, zero, (left + right) / 2], -1),
                         torch.stack([zero, half, (top + bottom) / 2], -1)], 1)
    grid = F.affine_grid(theta, [len(picture), 1, CROP, CROP], align_corners=False).to(picture.dtype)
    return F.grid_sample(picture - outside, grid, mode="bilinear", align_corners=False) + outside


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """The first and last true position of [N, L], in -1..1; the whole range if none is true."""
    length = line.shape[-1]
    first = line.float().argmax(-1)
    last = length - line.flip(-1).float().argmax(-1)
    return first / length * 2 - 1, last / length * 2 - 1


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of two sets of masks [N, 1, H, W], cut at 0.5. Returns [N]; two empty masks agree."""
    a, b = (mask.flatten(1) > 0.5 for mask in (first, second))
    union = (a | b).sum(1)
    return torch.where(union > 0, (a & b).sum(1) / union.clamp_min(1), torch.ones_like(union, dtype=torch.float))


def agreement(evaluator: Evaluator, picture: Tensor, coverage: Tensor) -> Tensor:
    """IOU of masks [N, 1, H, W] with the outlines that the evaluator finds in pictures [N, 3, H, W]. Returns [N]."""
    return overlap(evaluator.outline_logits(picture, coverage).sigmoid(), outline_window(coverage, coverage))
