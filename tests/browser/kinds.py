"""The pages that users have: the one bundled with ComfyUI and the newest, with nodes on a canvas or as elements."""

from typing import NamedTuple

import pytest

from tools import front_end


class Kind(NamedTuple):
    """One kind of page."""

    newest: bool = False
    nodes_2: bool = False


KINDS = {f"{front_end.version() if newest else 'bundled'}{' nodes 2.0' if nodes_2 else ''}": Kind(newest, nodes_2)
         for newest in (False, True) for nodes_2 in (False, True)}

every_page = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS, indirect=True, scope="module")
"""Runs a test, or as `pytestmark` all tests of a module, once in each kind of page."""
