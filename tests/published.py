"""Files with the keys, shapes and types that LayerDiffuse published, filled with random numbers.

Written from a description of the published files, not from the pack's networks, so that both can be compared.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

FRAMES = {"transparent_attn": 1, "joint": 3, "fg2bg": 2, "bg2fg": 2}
"""The number of frames of each file layer_sd15_... by its name."""
CONTROLLED = ("fg2bg", "bg2fg")
COUNTS = {"transparent_attn": 640, "joint": 1152, "fg2bg": 1180, "bg2fg": 1180}
LEVELS = [0, 0, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 0, 0, 0, 3]
"""The level of resolution of each transformer block, in the order of the files."""
PLACES = [f"{name}.{number}" for name, numbers in (("input_blocks", (1, 2, 4, 5, 7, 8)), ("output_blocks", range(3, 12)))
          for number in numbers] + ["middle_block"]
"""The same blocks by their names in the UNet."""
ENCODER = [[(3, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1)],
           *[[(256, 256, 2), (256, 256, 1)]] * 3]
"""Inputs, outputs and stride of the convolutions of each block of the control encoder."""
HALF = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""The error allowed in half precision, as a share of the largest value. bfloat16 has three bits less than float16: eight times
as much."""
HEADS = 8
WIDTHS = [32, 32, 64, 128, 256, 512, 512]
"""Of the transparent decoder's levels."""


def shapes(name: str, width: int = 320, context: int = 768) -> dict[str, tuple[int, ...]]:
    """Key and shape of each tensor of layer_sd15_{name}, for a UNet whose first level has this width."""
    found: dict[str, tuple[int, ...]] = {}
    for block, level in enumerate(LEVELS):
        h = width * [1, 2, 4, 4][level]
        for cross in (0, 1):
            unit = f"hookers.layers.{2 * block + cross}"
            for frame in range(FRAMES[name]):
                for part in ("q", "k", "v", "out"):
                    inputs = context if cross and part in "kv" else h
                    found[f"{unit}.to_{part}_lora.{frame}.down.weight"] = (256, inputs)
                    found[f"{unit}.to_{part}_lora.{frame}.up.weight"] = (h, 256)
                if name in CONTROLLED:
                    found[f"{unit}.control_convs.{frame}.0.weight"] = (256, 256, 3, 3)
                    found[f"{unit}.control_convs.{frame}.0.bias"] = (256,)
                    found[f"{unit}.control_convs.{frame}.2.weight"] = (h, 256, 1, 1)
                    found[f"{unit}.control_convs.{frame}.2.bias"] = (h,)
            for part in "niqkvo":
                found[f"{unit}.temporal_{part}.weight"] = (h,) if part == "n" else (h, h)
                found[f"{unit}.temporal_{part}.bias"] = (h,)
    if name in CONTROLLED:
        for number, block_of in enumerate(ENCODER):
            for index, (inputs, outputs, _) in enumerate(block_of):
                found[f"kwargs_encoder.blocks_{number}.{2 * index}.weight"] = (outputs, inputs, 3, 3)
                found[f"kwargs_encoder.blocks_{number}.{2 * index}.bias"] = (outputs,)
    return found


def decoder_shapes() -> dict[str, tuple[int, ...]]:
    """Key and shape of each tensor of the transparent decoder."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(key: str, *shape: int) -> None:
        found[f"{key}.weight"], found[f"{key}.bias"] = shape, shape[:1]

    def resnet(key: str, inputs: int, outputs: int) -> None:
        layer(f"{key}.norm1", inputs)
        layer(f"{key}.conv1", outputs, inputs, 3, 3)
        layer(f"{key}.norm2", outputs)
        layer(f"{key}.conv2", outputs, outputs, 3, 3)
        if inputs != outputs:
            layer(f"{key}.conv_shortcut", outputs, inputs, 1, 1)

    def attention(key: str, width: int) -> None:
        layer(f"{key}.group_norm", width)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            layer(f"{key}.{part}", width, width)

    layer("conv_in", 32, 3, 3, 3)
    layer("latent_conv_in", 64, 4, 1, 1)
    for level, width in enumerate(WIDTHS):
        for index in range(2):
            resnet(f"down_blocks.{level}.resnets.{index}", width if index else WIDTHS[max(level - 1, 0)], width)
            if level >= 4:
                attention(f"down_blocks.{level}.attentions.{index}", width)
        if level < 6:
            layer(f"down_blocks.{level}.downsamplers.0.conv", width, width, 3, 3)
    for index in range(2):
        resnet(f"mid_block.resnets.{index}", 512, 512)
    attention("mid_block.attentions.0", 512)
    skips = [WIDTHS[0], *(width for level, width in enumerate(WIDTHS) for width in [width] * (3 if level < 6 else 2))]
    came = 512
    for number, width in enumerate(reversed(WIDTHS)):
        for index in range(3):
            resnet(f"up_blocks.{number}.resnets.{index}", came + skips.pop(), width)
            came = width
            if number < 3:
                attention(f"up_blocks.{number}.attentions.{index}", width)
        if number < 6:
            layer(f"up_blocks.{number}.upsamplers.0.conv", width, width, 3, 3)
    layer("conv_norm_out", 32)
    layer("conv_out", 4, 32, 3, 3)
    return found


XL_GIVEN = {"transparent_attn": 0, "transparent_conv": 0, "fg2ble": 1, "bg2ble": 1, "fgble2bg": 2, "bgble2fg": 2}
"""The files layer_xl_..., with the number of given images whose latents they take beside the noisy ones."""
XL_COUNTS = {"transparent_attn": 1120, "transparent_conv": 206, "fg2ble": 206}
"""Tensors of these files at SDXL's own size. Those with given images have as many as fg2ble."""


def xl_shapes(name: str, weights: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Key and shape of each tensor of layer_xl_{name} for a UNet with these weights: a LoRA of all attention projections, or the
    differences of everything outside of the transformers, except what the time and the pooled prompt go through first."""
    found: dict[str, tuple[int, ...]] = {}
    for key, shape in weights.items():
        if name == "transparent_attn":
            if ".attn" in key and ".to_" in key and key.endswith(".weight"):
                found[f"diffusion_model.{key}::lora::0"] = (shape[0], 256)
                found[f"diffusion_model.{key}::lora::1"] = (256, shape[1])
        elif not key.startswith(("time_embed.", "label_emb.")) and not is_in_transformer(key):
            wide = key == "input_blocks.0.0.weight"
            found[f"diffusion_model.{key}::diff::0"] = (shape[0], 4 + 4 * XL_GIVEN[name], 3, 3) if wide else shape
    return found


def is_in_transformer(key: str) -> bool:
    """Whether a weight of SDXL's UNet is in one of its transformers, or in the norm or projections around it."""
    return any(part in key for part in (".transformer_blocks.", ".proj_in.", ".proj_out.", ".1.norm."))


def xl_merged(weights: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the UNet with a file's changes, the first convolution as wide as the file has it."""
    merged = dict(weights)
    for key, weight in weights.items():
        up, down, diff = (tensors.get(f"diffusion_model.{key}::{part}") for part in ("lora::0", "lora::1", "diff::0"))
        if up is not None and down is not None:
            merged[key] = weight + up.float() @ down.float()
        if diff is not None:
            wide = torch.zeros(diff.shape)
            wide[tuple(slice(side) for side in weight.shape)] = weight
            merged[key] = wide + diff.float()
    return merged


def random_tensors(wanted: dict[str, tuple[int, ...]], seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    """Random float16 numbers of these shapes, at a size that keeps activations moderate; scale: of all but the norms."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key, shape in wanted.items():
        norm = key.endswith(".weight") and len(shape) == 1
        spread = scale * torch.Size(shape[1:]).numel() ** -0.5 if len(shape) > 1 else 0.1
        found[key] = (torch.randn(shape, generator=generator) * spread + norm).half()
    return found


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[tokens, dim] each, head by head."""
    parts = []
    for a, b, c in zip(q.chunk(HEADS, -1), k.chunk(HEADS, -1), v.chunk(HEADS, -1)):
        parts.append((a @ b.T / a.shape[-1] ** 0.5).softmax(-1) @ c)
    return torch.cat(parts, dim=-1)


def reference(t: dict[str, Tensor], unit: int, base: dict[str, Tensor], x: list[Tensor], text: list[Tensor] | None,
              signal: Tensor | None) -> list[Tensor]:
    """What takes the place of the module's output, for the frames of one scene in the file's order, each [tokens, dim]."""
    at = f"hookers.layers.{unit}"
    ys = []
    for frame, part in enumerate(x):
        y = part
        if signal is not None:
            convs = f"{at}.control_convs.{frame}"
            c = F.silu(F.conv2d(signal, t[f"{convs}.0.weight"], t[f"{convs}.0.bias"], padding=1))
            c = F.conv2d(c, t[f"{convs}.2.weight"], t[f"{convs}.2.bias"])
            y = y + c[0].flatten(1).T
        weights = {name: base[name] + t[f"{at}.to_{name}_lora.{frame}.up.weight"] @ t[f"{at}.to_{name}_lora.{frame}.down.weight"]
                   for name in ("q", "k", "v", "out")}
        source = y if text is None else text[frame]
        o = plain_attention(y @ weights["q"].T, source @ weights["k"].T, source @ weights["v"].T)
        ys.append(y + o @ weights["out"].T + base["bias"])
    out = []
    for position in range(len(ys[0])):
        sequence = torch.stack([y[position] for y in ys])
        h = F.layer_norm(sequence, sequence.shape[-1:], t[f"{at}.temporal_n.weight"], t[f"{at}.temporal_n.bias"], 1e-6)
        h = F.linear(h, t[f"{at}.temporal_i.weight"], t[f"{at}.temporal_i.bias"])
        q, k, v = (F.linear(h, t[f"{at}.temporal_{n}.weight"], t[f"{at}.temporal_{n}.bias"]) for n in "qkv")
        out.append(sequence + F.linear(plain_attention(q, k, v), t[f"{at}.temporal_o.weight"], t[f"{at}.temporal_o.bias"]))
    return [torch.stack([row[frame] for row in out]) - part for frame, part in enumerate(x)]


def plain_signals(t: dict[str, Tensor], image: Tensor) -> list[Tensor]:
    """The control encoder's signals of an image [1, 3, H, W] in 0..1, for the four levels."""
    h, found = image * 2 - 1, []
    for number, block in enumerate(ENCODER):
        for index, (_, _, stride) in enumerate(block):
            key = f"kwargs_encoder.blocks_{number}.{2 * index}"
            h = F.silu(F.conv2d(h, t[f"{key}.weight"], t[f"{key}.bias"], stride=stride, padding=1))
        found.append(h)
    return found


def write(path: Path, wanted: dict[str, tuple[int, ...]], seed: int = 0, scale: float = 1.0) -> dict[str, Tensor]:
    """Write such a file. Returns its tensors."""
    tensors = random_tensors(wanted, seed, scale)
    save_file(tensors, path)
    return tensors
