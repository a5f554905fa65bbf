"""The cost of LayerDiffuse on an SD 1.5 MODEL of the true widths: a step, and the transparent decoder's time and memory.

`python -m benchmarks.layerdiffuse 1|8` decodes one image in that many passes and prints the seconds and the peak memory in bytes:
every measurement of memory needs its own process.
"""

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file

from tools import inprocess

from . import memory, models

STEP_CANVAS, DECODER_CANVAS = 256, 512
"""Pixels. A step is measured at half of the size that the files are made for, because there it takes a minute on two cores. The
smaller the image, the smaller is the share of self-attention, to which LayerDiffuse adds little: counted in operations, the ratio
is lower at 512."""
WIDTHS, CONTEXT = [320, 640, 1280, 1280], 768


def random_file(path: Path, network: torch.nn.Module) -> Path:
    """Writes a file with the keys and shapes of a network, float16 as the published ones, filled with small random numbers."""
    generator = torch.Generator().manual_seed(0)
    save_file({key: torch.randn(part.shape, generator=generator).mul(0.02).half() for key, part in network.state_dict().items()},
              path)
    return path


def sd15_model(pack: ModuleType) -> Any:
    """A MODEL of ComfyUI's SD 1.5 class at its true widths, with random weights."""
    import comfy.model_base
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    device, dtype = models.place()
    config = comfy.supported_models.SD15({
        "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": WIDTHS[0], "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
        "context_dim": CONTEXT, "use_spatial_transformer": True, "use_linear_in_transformer": False, "legacy": False,
        "adm_in_channels": None, "use_temporal_attention": False,
    })
    config.set_inference_dtype(dtype, None)
    model = comfy.model_base.BaseModel(config)
    pack.nodes.host.networks.initialise(model.diffusion_model)
    return comfy.model_patcher.ModelPatcher(model.to(dtype).requires_grad_(False), device,
                                            comfy.model_management.unet_offload_device())


def sides(pack: ModuleType, kind: str, base: Any) -> dict[str, Callable[[], Any]]:
    """One step of a scene with LayerDiffuse, and of ComfyUI's UNet over as many images.

    kind: "joint" or "fg2bg", whose given layer is a random image. base: from `sd15_model`.
    """
    import nodes as host_nodes

    core = pack.layerdiff_core.layerdiffuse
    described = core.JOINT if kind == "joint" else core.FG2BG
    frames, given, image = len(described.frames), described.given, None
    if given is not None:
        image = torch.rand(1, 3, STEP_CANVAS, STEP_CANVAS)
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            network = core.FrameNetwork(described, WIDTHS, CONTEXT)
        path = random_file(Path(folder) / f"layer_sd15_{kind}.safetensors", network)
        applied, _ = pack.nodes.host.layerdiffuse.apply_layerdiffuse(base, path, given, image)
    latent = {"samples": torch.zeros(frames, 4, STEP_CANVAS // 8, STEP_CANVAS // 8)}
    positive = [[torch.randn(frames, 77, CONTEXT), {"layers": frames}]]

    def step(model: Any) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                # At a guidance scale of 1, ComfyUI leaves out the negative prompt.
                return host_nodes.common_ksampler(model, 1, 1, 1.0, "euler", "normal", positive, positive, latent)
        return run

    return {"layerdiffuse": step(applied), "host": step(base)}


def main(views: int) -> int:
    """Decode one image and print the seconds, and the maximum increase in memory after the decoder was loaded."""
    inprocess.import_host()
    pack = inprocess.load_pack()
    import comfy.model_management
    import comfy.utils

    comfy.utils.set_progress_bar_enabled(False)
    device, _ = models.place()
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            network = pack.layerdiff_core.transparent_decoder.TransparentDecoder()
        path = random_file(Path(folder) / "vae_transparent_decoder.safetensors", network)
        decoder = pack.nodes.host.transparency.load_transparency(path, views, device)
    picture, latent = torch.rand(1, 3, DECODER_CANVAS, DECODER_CANVAS), torch.randn(1, 4, *[DECODER_CANVAS // 8] * 2)
    comfy.model_management.load_models_gpu([decoder.patcher])
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # Resets VmHWM.
        before = memory.resident("VmRSS")
    started = time.perf_counter()
    with torch.inference_mode():
        decoder.decode(picture, latent)
    spent = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else memory.resident("VmHWM")
    print(spent, peak - before)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
