"""The cost of a ControlNet on one layer of four and on all of them, with one hint per layer. Only the control itself is timed."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

from . import models

SIDE = 16
SIGMA = 3.0


def sides(pack: ModuleType) -> dict[str, Callable[[], Any]]:
    """The control of one layer and that of all layers of a scene of four, with and without the prompt in one batch."""
    import comfy.controlnet
    from comfy.cldm.cldm import ControlNet

    described, control = models.architecture(pack), pack.nodes.host.control
    networks, channels = pack.nodes.host.networks, described["latent"]["channels"]
    unet = {key: value for key, value in described["unet"].items() if key != "transformer_depth_output"}
    network = ControlNet(**unet, in_channels=channels, hint_channels=3, dtype=torch.float32, operations=networks.PLAIN)
    networks.initialise(network)
    device, _ = models.place()
    net = comfy.controlnet.ControlNet(network.requires_grad_(False).eval().to(device), load_device=device)
    model, _ = models.model_and_vae(pack)
    rows = 2 * models.LAYERS
    x = torch.randn(rows, 2 * channels, SIDE, SIDE, device=device)
    given = {"c_crossattn": models.prompts(described, rows).to(device)}

    def run(layers: list[int]) -> Callable[[], Any]:
        hints = torch.rand(len(layers), 8 * SIDE, 8 * SIDE, 3)
        ((_, options),), = control.apply_to_layers([[[None, {}]]], net, hints, models.LAYERS, dict.fromkeys(layers, 1.0), 0.0,
                                                   1.0, None)
        shown = control.PictureControl(options["control"], channels, models.LAYERS)
        shown.pre_run(model.model, model.model.model_sampling.percent_to_sigma)

        def once() -> Any:
            with torch.inference_mode():
                return shown.get_control(x, torch.full((rows,), SIGMA, device=device), given, 2, {"cond_or_uncond": [0, 1]})

        return once

    return {"one": run([2]), "all": run(list(range(models.LAYERS)))}
