"""The networks to measure: of the starter's widths, with random weights, which cost as much as trained ones."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

LAYERS = 4


def place() -> tuple[torch.device, torch.dtype]:
    """The device and dtype with which ComfyUI would run a model here."""
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    return device, torch.float32 if device.type == "cpu" else torch.float16


def architecture(pack: ModuleType) -> dict[str, Any]:
    """The starter's architecture, with the latent statistics that only a trained file would have filled in."""
    starter = importlib.import_module(f"{pack.__name__}.layerdiff_core.training.starter").ARCHITECTURE
    channels = starter["latent"]["channels"]
    facts = {"mean": [0.0] * channels, "std": [1.0] * channels, "rgb_factors": [[0.0] * 3] * channels,
             "rgb_bias": [0.0] * 3}
    return {**starter, "latent": {**starter["latent"], **facts}}


def layered_network(pack: ModuleType) -> torch.nn.Module:
    """The layer-collaborative UNet with the starter's widths."""
    networks = pack.nodes.host.networks
    network = networks.unet(architecture(pack))
    networks.initialise(network)
    return network.requires_grad_(False).eval()


def host_network(pack: ModuleType) -> torch.nn.Module:
    """ComfyUI's own UNet with the same widths, for the channels of a single latent."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    networks, described = pack.nodes.host.networks, architecture(pack)
    channels = described["latent"]["channels"]
    network = UNetModel(**described["unet"], in_channels=channels, out_channels=channels, dtype=torch.float32,
                        operations=networks.PLAIN)
    networks.initialise(network)
    return network.requires_grad_(False).eval()


def prompts(described: dict[str, Any], count: int) -> torch.Tensor:
    """Random tokens instead of encoded prompts: [count, tokens, width]."""
    return torch.randn(count, described["text"]["max_position_embeddings"], described["unet"]["context_dim"])


def step(pack: ModuleType, side: str, canvas: int) -> Callable[[], torch.Tensor]:
    """One forward pass: for the side "layered" over one scene of four layers, for "host" over a batch of four images.

    canvas: width and height in pixels.
    """
    device, dtype = place()
    layered = side == "layered"
    network = (layered_network(pack) if layered else host_network(pack)).to(device, dtype)
    described = architecture(pack)
    channels = described["latent"]["channels"] * (2 if layered else 1)
    x = torch.randn(LAYERS, channels, canvas // 8, canvas // 8, device=device, dtype=dtype)
    context = prompts(described, LAYERS).to(device, dtype)
    time = torch.full((LAYERS,), 500.0, device=device)
    more = {"layers": LAYERS} if layered else {}

    def run() -> torch.Tensor:
        with torch.inference_mode():
            return network(x, time, context=context, transformer_options={}, **more)

    return run


def model_and_vae(pack: ModuleType) -> tuple[Any, Any]:
    """A layered MODEL and VAE as built by the pack's loader from a file."""
    loading, networks = pack.nodes.host.loading, pack.nodes.host.networks
    described = architecture(pack)
    header = pack.layerdiff_core.checkpoint.Header("layerdiff", "complete", described, LAYERS, "", "", "")
    autoencoder = networks.autoencoder(described)
    networks.initialise(autoencoder)
    parts = {"unet": layered_network(pack).state_dict(), "vae": autoencoder.state_dict()}
    return loading.build_model("benchmark", header, parts), loading.build_vae("benchmark", header, parts)
