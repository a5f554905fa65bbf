"""Random graphs of the pack's and ComfyUI's nodes, with values that the page or another node can produce."""

import json
import random
from typing import Any

Graph = dict[str, dict[str, Any]]
Link = list[Any]

HOST_NODES = (
    "CLIPTextEncode", "CLIPSetLastLayer", "ConditioningCombine", "ConditioningAverage", "ConditioningConcat",
    "ConditioningZeroOut", "ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetMask", "ConditioningMultiply",
    "ConditioningSetTimestepRange", "InpaintModelConditioning", "FluxGuidance", "ReferenceLatent", "ConditioningSetProperties",
    "EmptyLatentImage", "EmptySD3LatentImage", "EmptyHunyuanLatentVideo", "EmptyLatentAudio", "EmptyQwenImageLayeredLatentImage",
    "LatentUpscale", "LatentUpscaleBy", "LatentFromBatch", "RepeatLatentBatch", "LatentComposite", "LatentBlend", "LatentRotate",
    "LatentFlip", "LatentCrop", "LatentAdd", "LatentSubtract", "LatentMultiply", "LatentInterpolate", "LatentConcat", "LatentCut",
    "LatentCutToBatch", "LatentBatch", "LatentBatchSeedBehavior", "RebatchLatents", "SetLatentNoiseMask", "LatentCompositeMasked",
    "LoadLatent", "VAELoader", "VAEEncode", "VAEEncodeForInpaint", "VAEDecode", "KSampler", "KSamplerAdvanced",
    "EmptyImage", "ImageScale", "ImageCrop", "ImageBatch", "ImageFlip", "ImageFromBatch", "ImagePadForOutpaint", "MaskToImage",
    "SolidMask", "InvertMask", "CropMask", "GrowMask", "ImageToMask", "JoinImageWithAlpha", "RepeatImageBatch",
    "RescaleCFG", "FreeU", "FreeU_V2", "HyperTile", "TomePatchModel", "ModelSamplingDiscrete", "PatchModelAddDownscale",
    "DifferentialDiffusion", "PerturbedAttentionGuidance", "SelfAttentionGuidance", "PerpNeg", "Mahiro", "CFGZeroStar", "APG",
    "EasyCache", "LazyCache", "ModelMergeSimple", "ModelMergeAdd", "CLIPMergeSimple", "ContextWindowsManual", "NAGuidance",
    "CreateLayeredImage", "PrimitiveInt", "PrimitiveFloat", "PrimitiveString", "ComfySwitchNode",
)
"""ComfyUI's nodes that produce inputs for the pack's nodes, as far as a version has them. None needs a file or a network."""

SIMPLE = {
    "MODEL": ("LayerDiffLoadModel", 0), "CLIP": ("LayerDiffLoadModel", 1), "VAE": ("LayerDiffLoadModel", 2),
    "LAYER_ENHANCER": ("LayerDiffLoadModel", 3), "CONDITIONING": ("CLIPTextEncode", 0), "LATENT": ("LayerDiffEmptyLatent", 0),
    "LAYERS": ("LayerDiffImportLayers", 0), "IMAGE": ("EmptyImage", 0), "MASK": ("SolidMask", 0), "INT": ("PrimitiveInt", 0),
    "FLOAT": ("PrimitiveFloat", 0), "STRING": ("PrimitiveString", 0),
}
"""The node to use for each type when a graph is deep enough."""

WIDGETS = ("COMBO", "BOOLEAN", "INT", "FLOAT", "STRING", "COMFY_MATCHTYPE_V3")

LARGE = 64
SIDES = (1, 2, 7, 16, 17, 24, 33, 40, 64, 72)
FEW = {"steps": 2, "scenes": 3, "batch_size": 5, "amount": 3, "length": 4, "repeats": 3, "frames": 3, "num_frames": 5,
       "layers": 5, "scale": 6, "scale_by": 3, "end_at_step": 3, "start_at_step": 3, "expand": 9, "context_length": 8,
       "dilation": 3, "upscale_amount": 2, "seconds": 2}
"""Maximum values for inputs that cost time, regardless of the widget's limits."""

LAYERS_OF = {"layerdiff_starter.safetensors": 3, "text2layer_starter.safetensors": 2, "text2layer_two_foregrounds.safetensors": 3}
"""The models that come with the pack, each with a suitable number of layers."""

LAYERDIFF = "layerdiff_starter.safetensors"
FOR_LAYERDIFF = ("LayerDiffEncodePrompts", "LayerDiffStackConditioning", "LayerDiffFreeLayers", "LayerDiffApplyAdapter",
                 "VAEEncode", "VAEEncodeForInpaint", "InpaintModelConditioning")
FOR_TEXT2LAYER = ("LayerDiffKeepLayers", "CLIPTextEncode", "LayerDiffApplyAdapter", "VAEEncode", "VAEEncodeForInpaint",
                  "InpaintModelConditioning")
"""Nodes that do not work with the other family, or with either."""

SAMPLERS = ("euler", "euler_ancestral", "heun", "dpm_2", "dpmpp_2m", "dpmpp_sde", "dpmpp_2m_sde", "lcm", "ddim", "ddpm", "uni_pc")
WORDS = (
    "", " ", "\n\n", "a fox", "background: a beach\nfox: a fox", "sky: a sky\nfox: a red fox\nballoon: a balloon", "fox:",
    ": a fox",
    "a:b:c", "(a fox:1.3), ((b", "(" * 300, "embedding:nothing", "猫" * 60, "🦊👩‍👩‍👧", "عنوان", "\0", "\ud800", "x" * 3000,
    "a\n" * 51, "0", "1", "0-2", "2-0", "1,,2;", "0-99999999", "9" * 5000, "٣", "-1", "NUL", "a.", "../out", "/etc/x", "sub/x",
    "sub/", "%date:yyyy%", "%width%_%batch_num%", "x*?<>|", "[]", "null", "{}", "{" * 5000, '{"version": 1}',
    '{"version": 1, "solo": 9}', '{"version": 1, "order": [1, 0]}', '{"version": 1, "layers": {"0": {"scale": 0.01}}}',
    '{"version": 1, "layers": {"0": {"opacity": 0.5, "right": -99999, "rotation": 123.4, "blend_mode": "hue"}}}',
    '{"version": 1, "made_for": "0123456789abcdef", "layers": {"7": {"visible": false}}}', '{"version": 1, "solo": NaN}',
)
"""Valid and invalid texts that a widget could hold, used for every input."""


class Builder:
    """Builds a random graph. info: the server's /object_info. dice: the random generator."""

    def __init__(self, info: dict[str, Any], dice: random.Random) -> None:
        self.info, self.dice = info, dice
        self.ours = sorted(name for name in info if name.startswith("LayerDiff"))
        self.known = [*self.ours, *(name for name in HOST_NODES if name in info and self.can_be_filled(name))]
        # Most graphs are consistent (one model, its number of layers, mostly valid texts and files), so that they get further.
        self.model = dice.choice(list(LAYERS_OF)) if dice.random() < 0.6 else None
        self.unsuited = () if self.model is None else FOR_TEXT2LAYER if self.model == LAYERDIFF else FOR_LAYERDIFF
        self.graph: Graph = {}
        self.outputs: dict[str, list[Link]] = {}

    def can_be_filled(self, name: str) -> bool:
        """Whether every required input of a node is a widget, or of a type that another node here outputs."""
        return all(isinstance(spec[0], list) or spec[0] in (*SIMPLE, *WIDGETS)
                   for spec in self.info[name]["input"].get("required", {}).values())

    def build(self) -> Graph:
        """One to three of the pack's nodes with everything they need, connected to outputs so that ComfyUI runs them."""
        suited = [name for name in self.ours if name not in (*self.unsuited, "LayerDiffCreateAdapter") or self.model is None]
        for name in self.dice.sample(suited, self.dice.choice((1, 1, 2, 3))):
            number = self.node(name, 0)
            if not self.info[name]["output_node"]:
                self.add("PreviewAny", {"source": [number, self.dice.randrange(len(self.info[name]["output"]))]})
        return self.graph

    def add(self, name: str, inputs: dict[str, Any]) -> str:
        number = str(len(self.graph) + 1)
        self.graph[number] = {"class_type": name, "inputs": inputs}
        for slot, kind in enumerate(self.info[name]["output"]):
            if isinstance(kind, str):
                self.outputs.setdefault(kind, []).append([number, slot])
        return number

    def node(self, name: str, depth: int) -> str:
        """Add a node with random inputs. Returns its number."""
        inputs: dict[str, Any] = {}
        groups = self.info[name]["input"]
        for needed in ("required", "optional"):
            for label, spec in groups.get(needed, {}).items():
                if needed == "optional" and self.dice.random() < 0.5:
                    continue
                self.fill(inputs, label, spec[0], spec[1] if len(spec) > 1 else {}, depth, name in self.ours)
        return self.add(name, inputs)

    def fill(self, inputs: dict[str, Any], label: str, kind: Any, options: dict[str, Any], depth: int,
             ours: bool = True) -> None:
        """Give an input a value or a link. Only the pack's nodes get numbers over links, which have no limits."""
        if kind == "COMFY_AUTOGROW_V3":
            wanted = next(iter(options["template"]["input"]["required"].values()))
            for number in range(LAYERS_OF[self.model] if self.model else self.dice.choice((1, 2, 3, 4))):
                if self.model:
                    inputs[f"{label}.{options['template']['prefix']}{number}"] = [self.node("CLIPTextEncode", depth + 1), 0]
                    continue
                self.fill(inputs, f"{label}.{options['template']['prefix']}{number}", wanted[0], {}, depth)
            return
        if kind == "COMFY_MATCHTYPE_V3":
            inputs[label] = self.link(self.dice.choice(("STRING", "LATENT", "LAYERS", "INT")), depth + 1)
            return
        if not isinstance(kind, list) and kind not in (*SIMPLE, *WIDGETS):
            return
        if not ours and kind in ("INT", "FLOAT"):  # ComfyUI's own nodes are not tested with large numbers
            options = {**options, "min": max(options.get("min", -LARGE), -LARGE), "max": min(options.get("max", LARGE), LARGE)}
        widget = self.value(label, kind, options)
        linked = 1.0 if widget is None else 0.12 if ours and not options.get("socketless") else 0.0
        inputs[label] = self.link(kind, depth + 1) if self.dice.random() < linked and isinstance(kind, str) and kind in SIMPLE \
            else widget

    def link(self, kind: str, depth: int) -> Link:
        """An output of this type: often one that exists already, so that graphs are connected, otherwise a new node's."""
        there = self.outputs.get(kind, [])
        if there and self.dice.random() < (0.7 if kind in ("MODEL", "CLIP", "VAE", "LAYER_ENHANCER") else 0.5):
            return self.dice.choice(there)
        makers = [name for name in self.known if kind in self.info[name]["output"] and name not in self.unsuited]
        if depth < 6 and makers and self.dice.random() < 0.8:
            name = self.dice.choice([name for name in makers if name in self.ours] or makers) if self.dice.random() < 0.4 \
                else self.dice.choice(makers)
            return [self.node(name, depth), self.info[name]["output"].index(kind)]
        if there and self.dice.random() < 0.8:
            return self.dice.choice(there)
        name, slot = SIMPLE[kind] if kind != "CONDITIONING" or self.model != LAYERDIFF else ("LayerDiffEncodePrompts", 0)
        return [self.node(name, depth), slot]

    def value(self, label: str, kind: Any, options: dict[str, Any]) -> Any:
        """A value that the page's widget could hold; None for a socket."""
        if isinstance(kind, list) or kind == "COMBO":
            choices = list(kind if isinstance(kind, list) else options.get("options", []))
            few = [choice for choice in choices if choice in SAMPLERS] if label == "sampler_name" else choices
            if self.model:
                fitting = [choice for choice in choices if f"random_{LAYERS_OF[self.model]}." in str(choice)]
                few = [self.model] if self.model in choices else fitting or few
            return self.dice.choice(few or choices or [""])
        if kind == "BOOLEAN":
            return self.dice.random() < 0.5
        if kind == "STRING":
            return options.get("default", "") if self.dice.random() < (0.8 if self.model else 0.4) else self.dice.choice(WORDS)
        if kind in ("INT", "FLOAT"):
            return self.number(label, kind == "INT", options)
        return None

    def number(self, label: str, whole: bool, options: dict[str, Any]) -> int | float:
        """A number within a widget's limits, often one of them or its default."""
        low, high = options.get("min", -(10**6)), options.get("max", 10**6)
        if label in ("width", "height", "crop_w", "target_width", "target_height"):
            side = self.dice.choice(SIDES)
            return max(low, side)
        if label in ("layers", "layer", "scene") and self.model:
            return LAYERS_OF[self.model] if label == "layers" else self.dice.choice((0, 1)) if label == "layer" else 0
        if high - low > 10**12:
            return self.dice.choice((0, 1, -1, 2, 7, 10**6, -(10**6), 10**15)) if low < 0 else self.dice.choice((0, 1, 7, 2**40))
        if label in FEW:
            low, high = max(low, -FEW[label]), max(low, min(high, FEW[label]))
        chosen = self.dice.choice((low, high, options.get("default", low), self.dice.uniform(low, high),
                                   low + (high - low) * self.dice.random() ** 6))
        if not whole:  # rounded like in the page
            chosen = round(chosen / options.get("step", 0.01)) * options.get("step", 0.01)
        chosen = min(max(chosen, low), high)
        return round(chosen) if whole else chosen


def random_graph(info: dict[str, Any], seed: str) -> Graph:
    """The graph of a seed: the same for the same nodes and files."""
    return json.loads(json.dumps(Builder(info, random.Random(seed)).build()))
