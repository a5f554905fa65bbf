"""Blend modes against values worked out by hand from the W3C formulas (b = backdrop, s = source)."""

import pytest
import torch

from layerdiff_core.blend import MODES, blend

# mode: [(b, s, result)], each a grey or a single channel's value
SEPARABLE = {
    "normal": [(0.2, 0.7, 0.7)],
    "multiply": [(0.5, 0.4, 0.2), (1, 0.3, 0.3)],
    "screen": [(0.5, 0.4, 0.7), (0, 0.3, 0.3)],
    "overlay": [(0.25, 0.6, 0.3), (0.75, 0.6, 0.8), (0.5, 0.6, 0.6)],
    "darken": [(0.3, 0.6, 0.3), (0.6, 0.3, 0.3)],
    "lighten": [(0.3, 0.6, 0.6), (0.6, 0.3, 0.6)],
    "color-dodge": [(0, 1, 0), (0.2, 1, 1), (0.3, 0.5, 0.6), (0.8, 0.5, 1), (0.5, 0, 0.5)],
    "color-burn": [(1, 0, 1), (0.8, 0, 0), (0.8, 0.5, 0.6), (0.3, 0.5, 0), (0.5, 1, 0.5)],
    "hard-light": [(0.6, 0.25, 0.3), (0.6, 0.75, 0.8), (0.6, 0.5, 0.6)],
    "soft-light": [
        (0.4, 0.25, 0.28),  # 0.4 - 0.5 * 0.4 * 0.6
        (0.25, 0.75, 0.375),  # D(0.25) = sqrt(0.25) = 0.5
        (0.1, 1, 0.296),  # D(0.1) = ((1.6 - 12) * 0.1 + 4) * 0.1 = 0.296
        (0.36, 0.75, 0.48),  # 0.36 + 0.5 * (0.6 - 0.36)
        (0.64, 0.75, 0.72),  # 0.64 + 0.5 * (0.8 - 0.64)
    ],
    "difference": [(0.3, 0.8, 0.5), (0.8, 0.3, 0.5)],
    "exclusion": [(0.3, 0.8, 0.62), (1, 1, 0)],
    "linear-dodge": [(0.3, 0.4, 0.7), (0.8, 0.4, 1)],
    "linear-burn": [(0.8, 0.4, 0.2), (0.3, 0.4, 0)],
    "vivid-light": [(0.8, 0.25, 0.6), (0.3, 0.75, 0.6), (0.4, 0.5, 0.4)],
    "linear-light": [(0.5, 0.6, 0.7), (0.9, 0.9, 1), (0.2, 0.1, 0)],
    "pin-light": [(0.3, 0.9, 0.8), (0.9, 0.9, 0.9), (0.9, 0.2, 0.4), (0.3, 0.2, 0.3)],
    "hard-mix": [(0.5, 0.5, 1), (0.5, 0.25, 0)],
    "subtract": [(0.8, 0.3, 0.5), (0.3, 0.8, 0)],
    "divide": [(0.3, 0.6, 0.5), (0.6, 0.3, 1), (0.5, 0, 1)],
    "grain-extract": [(0.6, 0.4, 0.7), (0.9, 0.1, 1)],
    "grain-merge": [(0.6, 0.4, 0.5), (0.1, 0.2, 0)],
}

# Lum(c) = 0.3 r + 0.59 g + 0.11 b
ORANGE, BLUE = (0.8, 0.4, 0.2), (0.1, 0.2, 0.5)  # Lum 0.498 and 0.203, Sat 0.6 and 0.4
NON_SEPARABLE = {
    # SetSat(BLUE, 0.6) = (0, 0.15, 0.6), its Lum 0.1545; raised by 0.3435: (0.3435, 0.4935, 0.9435)
    "hue": [(ORANGE, BLUE, (0.3435, 0.4935, 0.9435))],
    # SetSat(ORANGE, 0.4) = (0.4, 0.13333, 0), its Lum 0.198667; raised by 0.299333
    "saturation": [(ORANGE, BLUE, (0.699333, 0.432667, 0.299333))],
    # BLUE raised by 0.295
    "color": [
        (ORANGE, BLUE, (0.395, 0.495, 0.795)),
        # White's luminosity on red: red raised by 0.7 is (1.7, 0.7, 0.7), clipped to (1, 1, 1)
        ((1, 1, 1), (1, 0, 0), (1, 1, 1)),
        # Lum 0.5: red + 0.2 = (1.2, 0.2, 0.2), high > 1: 0.5 + (c - 0.5) * 0.5 / 0.7
        ((0.5, 0.5, 0.5), (1, 0, 0), (1, 0.285714, 0.285714)),
        # Lum 0.1: blue - 0.01 = (-0.01, -0.01, 0.99), low < 0: 0.1 + (c - 0.1) * 0.1 / 0.11
        ((0.1, 0.1, 0.1), (0, 0, 1), (0, 0, 0.909091)),
    ],
    # ORANGE lowered by 0.295 is (0.505, 0.105, -0.095), low < 0: 0.203 + (c - 0.203) * 0.203 / 0.298
    "luminosity": [(ORANGE, BLUE, (0.408725, 0.136242, 0))],
}


@pytest.mark.parametrize(("mode", "case"), [(m, c) for m, cases in SEPARABLE.items() for c in cases])
def test_separable_modes(mode, case):
    backdrop, source, expected = (torch.full((1, 2, 3), float(value)) for value in case)
    assert torch.allclose(blend(mode, backdrop, source), expected, atol=1e-5)


@pytest.mark.parametrize(("mode", "case"), [(m, c) for m, cases in NON_SEPARABLE.items() for c in cases])
def test_non_separable_modes(mode, case):
    backdrop, source, expected = (torch.tensor(value, dtype=torch.float32).expand(1, 2, 3) for value in case)
    assert torch.allclose(blend(mode, backdrop, source), expected, atol=1e-5)


def test_every_mode_is_tested():
    assert set(MODES) == SEPARABLE.keys() | NON_SEPARABLE.keys()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_works_on_batches_and_stays_in_range(mode):
    corners = torch.tensor([0.0, 0.5, 1.0])
    colours = torch.cat([torch.cartesian_prod(corners, corners, corners), torch.rand(37, 3)])
    backdrop, source = colours[:, None].expand(64, 64, 3), colours[None].expand(64, 64, 3)
    result = blend(mode, backdrop, source)
    assert result.shape == (64, 64, 3)
    assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    assert torch.equal(result[5, 9], blend(mode, backdrop[5, 9], source[5, 9]))


@pytest.mark.parametrize("mode", ["", "Normal", "dissolve", None, 3, ["normal"]])
def test_an_unknown_mode_is_named(mode):
    with pytest.raises(ValueError, match="Unknown blend mode.*multiply"):
        blend(mode, torch.zeros(1, 3), torch.zeros(1, 3))
