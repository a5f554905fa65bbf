"""Nodes that turn text into conditioning for layers."""

from typing import Any

import torch
from comfy_api.latest import io

from ..layerdiff_core.enhancer import PromptEnhancer
from ..layerdiff_core.layers import MAX_LAYERS
from ..layerdiff_core.prompts import parse_layer_prompts, same_length
from .host.conditioning import LAYERS_KEY, NAMES_KEY, pooled_rows, stack
from .host.model import WHOLE_KEY
from .host.types import ENHANCER
from .host.warnings import warnings_ui
from .host.words import ENCODER_KEY, check_words, unknown_words
from .inputs import check_limits

SHOWN_WORDS = 8
NOT_CONNECTED = object()
"""Stands for an enhancer that is not connected. None is what Load Layered Model outputs for a Text2Layer model."""
EXAMPLE_GLOBAL = "a palm tree on the left and a teddy bear on the right at a beach by day"
EXAMPLE_LAYERS = "background: a beach\ntree: a palm tree\nbear: a teddy bear"


def encode(clip: Any, prompt: str) -> list[tuple[torch.Tensor, dict[str, Any]]]:
    """Encodes a prompt with ComfyUI's own encoder. Returns tokens [1, T, dim] and ComfyUI's other options, once for each range
    of steps in which the CLIP's scheduled hooks differ."""
    if clip is None:
        raise ValueError("The CLIP is empty because the checkpoint does not contain a text encoder. Load one with Load CLIP.")
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def enriched(enhancer: PromptEnhancer, tokens: torch.Tensor, overall: torch.Tensor, strength: float) -> torch.Tensor:
    """Layer prompts [K, T, dim] enhanced with the global prompt [1, G, dim], on the device they came from: the enhancer runs
    on the CPU, but with --gpu-only ComfyUI keeps prompts on the GPU."""
    return enhancer(tokens.float().cpu(), overall.float().cpu(), strength).to(tokens.device)


class LayerDiffEncodePrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LayerDiffEncodePrompts",
            display_name="Encode Layer Prompts",
            category="LayerDiff/prompts",
            description="Encodes one prompt per layer, combined with a global prompt for the whole image: lighting, style, "
            "and the position and size of the objects.",
            # Lets the page show the warnings again after a reload, when the node is cached and does not run.
            has_intermediate_output=True,
            search_aliases=["text to layers", "layer prompt", "clip text encode layers", "prompt enhancer", "regional prompt"],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of the layered model or of its SD 1.5 checkpoint."),
                ENHANCER.Input("enhancer", optional=True, tooltip="The prompt enhancer, from Load Layered Model or Apply "
                               "LayerDiff Adapter. Leave it unconnected for LayerDiffuse, where the global prompt describes the "
                               "blended image."),
                io.String.Input("global_prompt", multiline=True, default=EXAMPLE_GLOBAL,
                                tooltip="Describes the whole image. If empty, each layer uses only its own prompt."),
                io.String.Input("layer_prompts", multiline=True, default=EXAMPLE_LAYERS,
                                tooltip="One layer per line, \"name: prompt\". The background comes first, the top layer last."),
                io.String.Input("negative_prompt", multiline=True, default="",
                                tooltip="What no layer should show. Leave it empty for the starter models."),
                io.Float.Input("enhancer_strength", default=1.0, min=0.0, max=2.0, step=0.05,
                               tooltip="How strongly the global prompt affects the layers. 0 turns it off, 1 is as trained."),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive", tooltip="The conditioning of all layers."),
                io.Conditioning.Output("negative", display_name="negative", tooltip="The negative conditioning of all layers."),
                io.Int.Output("layers", display_name="layers", tooltip="The number of layers, for Empty Layered Latent."),
                io.String.Output("names", display_name="names", tooltip="The layer names, one per line, for Decode Layers."),
            ],
        )

    @classmethod
    def execute(cls, clip: Any, enhancer: Any = NOT_CONNECTED, global_prompt: str = "", layer_prompts: str = "",
                negative_prompt: str = "", enhancer_strength: float = 1.0) -> io.NodeOutput:
        check_limits(cls, enhancer_strength=enhancer_strength)
        if enhancer is None:
            raise ValueError("The enhancer is empty because this is a Text2Layer model, which takes one prompt for the whole "
                             "image. Encode it with CLIP Text Encode. Encode Layer Prompts is for LayerDiff models.")
        # Tokenizers fail on a lone surrogate, which is left when a text is cut in the middle of a character.
        global_prompt, layer_prompts, negative_prompt = (text.encode(errors="replace").decode()
                                                         for text in (global_prompt, layer_prompts, negative_prompt))
        layers = parse_layer_prompts(layer_prompts)
        encoded = [encode(clip, prompt) for _, prompt in layers]
        alone = enhancer is NOT_CONNECTED
        overall = encode(clip, global_prompt) if global_prompt.strip() and (alone or enhancer_strength > 0) else None
        if overall is not None and not alone:
            options = encoded[0][0][1]
            if enhancer.dim != overall[0][0].shape[-1]:
                raise ValueError(f"The enhancer needs prompts of width {enhancer.dim}, but this CLIP outputs "
                                 f"{overall[0][0].shape[-1]}. Use the CLIP and the enhancer of the same model.")
            check_words(options.get(ENCODER_KEY), enhancer.text_encoder, "the enhancer")
        of_all = {LAYERS_KEY: len(layers), NAMES_KEY: [name for name, _ in layers]}
        positive = []
        for part, entries in enumerate(zip(*encoded)):
            tokens = torch.cat(same_length([tokens for tokens, _ in entries]))
            whole = {}
            if overall is not None and alone:
                whole = {WHOLE_KEY: overall[part][0]}
            elif overall is not None:
                tokens = enriched(enhancer, tokens, overall[part][0], enhancer_strength)
            pooled = pooled_rows([options for _, options in entries])
            positive.append([tokens, {**entries[0][1], **pooled, **whole, **of_all}])
        negative = [[tokens, {**options, **of_all}] for tokens, options in encode(clip, negative_prompt)]
        unknown = dict.fromkeys(word for prompt in (global_prompt, *(prompt for _, prompt in layers), negative_prompt)
                                for word in unknown_words(clip, prompt))
        return io.NodeOutput(positive, negative, len(layers), "\n".join(name for name, _ in layers),
                             ui=warnings_ui(_said_of(list(unknown))))


def _said_of(unknown: list[str]) -> list[str]:
    if not unknown:
        return []
    words = ", ".join(f'"{word}"' for word in unknown[:SHOWN_WORDS]) + (" and more" if len(unknown) > SHOWN_WORDS else "")
    return [f"This model does not know {words}. It is small and knows only the objects and places listed in the pack's README. "
            "Other words give shapeless results."]


class LayerDiffStackConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        sockets = io.Autogrow.TemplatePrefix(
            input=io.Conditioning.Input("layer", tooltip="The conditioning of one layer. The first is the background."),
            prefix="layer", min=1, max=MAX_LAYERS)
        return io.Schema(
            node_id="LayerDiffStackConditioning",
            display_name="Stack Layer Conditioning",
            category="LayerDiff/prompts",
            description="Stacks one CONDITIONING per layer into a layered conditioning. Each can come from any node, for "
            "example another text encoder, Conditioning Average or Apply ControlNet. What these nodes set acts on that layer "
            "alone. The background comes first.",
            search_aliases=["batch conditioning", "combine layer prompts", "layer conditioning"],
            inputs=[
                io.Autogrow.Input("conditionings", template=sockets, tooltip="One conditioning per layer, bottom layer first."),
            ],
            outputs=[
                io.Conditioning.Output(tooltip="The conditioning of all layers. A ControlNet, mask, area or timestep range "
                                       "of a layer acts on that layer alone."),
                io.Int.Output("layers", display_name="layers", tooltip="The number of layers."),
            ],
        )

    @classmethod
    def execute(cls, conditionings: dict[str, Any]) -> io.NodeOutput:
        stacked = [conditioning for conditioning in conditionings.values() if conditioning is not None]
        if not stacked:
            raise ValueError("No conditioning is connected. Connect one per layer, the background first.")
        for number, conditioning in enumerate(stacked):
            rows = max((len(tokens) for tokens, _ in conditioning), default=0)
            if rows != 1:
                raise ValueError(f"Layer {number} has a conditioning for {rows} images, but one image was expected. Connect the "
                                 "conditioning of a single layer, and do not stack layered conditionings.")
        return io.NodeOutput(stack(stacked), len(stacked))


NODES = [LayerDiffEncodePrompts, LayerDiffStackConditioning]
