"""The cost of three LoRAs on three layers: Load LoRA for Layers in one pass, and ComfyUI's LoRA hooks in a pass for each."""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from . import models

CANVAS = 128
CFG = 4.0
RANK = 8
LORAS = 3


def random_lora(unet: nn.Module, seed: int) -> dict[str, Tensor]:
    """The tensors of a LoRA file, small random numbers, for the parts that trainers change by default: the linear layers and
    convolutions of the transformers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in unet.named_modules():
        changed = ".transformer_blocks." in name or name.endswith(("proj_in", "proj_out"))
        if not changed or ".inter_layer" in name or not isinstance(module, (nn.Linear, nn.Conv2d)):
            continue
        out, inputs, *rest = module.weight.shape
        key = "lora_unet_" + name.replace(".", "_")
        tensors[f"{key}.lora_up.weight"] = torch.randn(out, RANK, *rest, generator=generator) * 0.02
        tensors[f"{key}.lora_down.weight"] = torch.randn(RANK, inputs, *rest, generator=generator) * 0.02
        tensors[f"{key}.alpha"] = torch.tensor(float(RANK))
    return tensors


def sides(pack: ModuleType, steps: int) -> dict[str, Callable[[], Tensor]]:
    """Three ways to sample one scene of four layers: without a LoRA, with one on each of three layers in the same pass, and
    the same with hooks on three more prompts, each with a mask over its layer."""
    import comfy.hooks

    import nodes as host_nodes

    model, _ = models.model_and_vae(pack)
    described, side = models.architecture(pack), CANVAS // 8
    files = [random_lora(model.model.diffusion_model, seed) for seed in range(LORAS)]
    many = model
    for number, tensors in enumerate(files):
        adapters, _ = pack.nodes.host.lora_files.adapters_of(model, "benchmark", tensors)
        entries = pack.layerdiff_core.layer_text.parse_layer_text(str(number + 1), 1.0)
        many = pack.nodes.host.layer_lora.load_for_layers(many, "benchmark", adapters, entries)
    latent = {"samples": torch.zeros(models.LAYERS, 2 * described["latent"]["channels"], side, side), "layers": models.LAYERS}
    options = {"layers": models.LAYERS}
    positive = [[models.prompts(described, models.LAYERS), options]]
    negative = [[models.prompts(described, models.LAYERS), options]]

    def hooked(conditioning: list) -> list:
        parts = []
        for layer in range(models.LAYERS):
            mask = torch.zeros(models.LAYERS, side, side)
            mask[layer] = 1.0
            part = [[tokens, {**facts, "mask": mask, "mask_strength": 1.0}] for tokens, facts in conditioning]
            if layer:
                hooks = comfy.hooks.create_hook_lora(lora=files[layer - 1], strength_model=1.0, strength_clip=0.0)
                part = comfy.hooks.set_hooks_for_conditioning(part, hooks)
            parts += part
        return parts

    prompts = {"plain": (positive, negative), "layers": (positive, negative), "hooks": (hooked(positive), hooked(negative))}

    def sample(way: str) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.inference_mode():
                return host_nodes.common_ksampler(many if way == "layers" else model, 1, steps, CFG, "euler", "normal",
                                                  *prompts[way], latent)[0]["samples"]
        return run

    return {way: sample(way) for way in prompts}
