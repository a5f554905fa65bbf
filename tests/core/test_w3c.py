"""Every blend mode, in both colour spaces, against the W3C text written out pixel by pixel."""

import numpy as np
import pytest

from layerdiff_core.blend import MODES
from layerdiff_core.composite import composite
from layerdiff_core.layers import Document
from tests import w3c

LEVEL = 1 / 255


@pytest.mark.parametrize("linear", [False, True], ids=["display", "linear"])
@pytest.mark.parametrize("mode", MODES)
def test_the_composite_is_what_the_text_says(mode: str, linear: bool) -> None:
    for name, layers in w3c.scenes(mode).items():
        wanted, wanted_alpha, special = w3c.composite(layers, linear)
        numbered = [layer | {"z_index": number} for number, layer in enumerate(layers)]
        image, alpha = composite(Document.from_socket({"version": 1, "layers": numbered}), linear)
        far = np.abs(image[0].numpy() - wanted) * wanted_alpha
        if mode == "hard-mix":
            # At its jump rounding may go either way.
            far[special] = 0
        assert far.max() < LEVEL, name
        assert np.abs(alpha[0].numpy()[..., None] - wanted_alpha).max() < 1e-5


def test_all_modes_are_there() -> None:
    assert list(w3c.W3C | w3c.OTHERS) == list(MODES)
