"""The text encoders of a pipeline's folder, and what else its denoiser is told: by the kind of the denoiser.

Stable Diffusion 1 and 2 attend to the last states of one encoder. Stable Diffusion XL (Podell et al. 2023) attends to
the penultimate states of two and is told a pooled text and sizes. PixArt (Chen et al. 2023, 2024) attends to the states
of a T5 encoder where they are no padding, and is told the resolution where it was trained for several.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forwardinf_core.errors import ModelError
from forwardinf_core.models.parts import fingerprint
from forwardinf_core.models.prompts import PromptEncoder, Reading, TextEncoder
from forwardinf_core.models.weights import variant_of

if TYPE_CHECKING:
    from diffusers import ModelMixin
    from transformers import PreTrainedTokenizerBase

UNET, PIXART = "UNet2DConditionModel", "PixArtTransformer2DModel"
CLIP, PROJECTED, T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
TWO_ENCODERS = "text_time"  # the additional embedding of Stable Diffusion XL
ELSE_TOLD = ("class_embed_type", "num_class_embeds", "encoder_hid_dim", "encoder_hid_dim_type", "time_cond_proj_dim")
SUPPORTED = "Stable Diffusion 1, 2 and XL, and PixArt, are traced."
LONGEST = 512  # tokens, where neither tokenizer nor encoder says how many it takes
PIXART_TOKENS = {"alpha": 120, "sigma": 300}  # as the library's pipelines read


def load_prompts(
    folder: Path, module: ModelMixin, index: dict[str, object] | None, pixels: int, shown: str
) -> PromptEncoder | None:
    """Return what reads the prompts of a denoiser; None where it is not told in words.

    ``index`` is the content of model_index.json; ``pixels`` is the side of the images it makes. Raises ModelError, in a
    sentence, where an encoder is missing or of another model, or where the denoiser is told what is not known here.
    """
    settings, kind = dict(module.config), type(module).__name__
    if kind == PIXART:
        return _pixart(folder, module, index or {}, pixels, shown)
    if kind != UNET:
        return None
    width, added = settings.get("cross_attention_dim"), settings.get("addition_embed_type")
    told = [name for name in ELSE_TOLD if settings.get(name) is not None]
    if added not in (None, TWO_ENCODERS):
        told.append(f"addition_embed_type: {added}")
    if told:
        raise ModelError(
            f"{shown}: a denoiser that is told more than a prompt ({told[0]}) cannot be traced.", hint=SUPPORTED
        )
    if not isinstance(width, int):
        raise ModelError(f"{shown} takes states of several widths.", hint=SUPPORTED)
    if added is None:
        return _fitting(PromptEncoder((_encoder(folder, "", (CLIP, T5), shown),)), width, shown)
    return _two(folder, settings, width, index or {}, pixels, shown)


def _two(
    folder: Path, settings: dict[str, object], width: int, index: dict[str, object], pixels: int, shown: str
) -> PromptEncoder:
    first = _encoder(folder, "", (CLIP,), shown, reading="penultimate")
    second = _encoder(folder, "_2", (PROJECTED,), shown, reading="penultimate")
    if first.length != second.length:
        raise ModelError(
            f"{shown}: the text encoders read {first.length} and {second.length} tokens.",
            hint="They belong to different models.",
        )
    square = (float(pixels), float(pixels))
    sizes = (*square, 0.0, 0.0, *square)  # of the original, where it was cut, and of the image: a whole square
    prompts = PromptEncoder(
        (first, second), (("sizes", sizes),), zeros_for_nothing=bool(index.get("force_zeros_for_empty_prompt", True))
    )
    each, takes = settings.get("addition_time_embed_dim"), settings.get("projection_class_embeddings_input_dim")
    made = prompts.read([""])["pooled"].shape[-1] + len(sizes) * (each if isinstance(each, int) else 0)
    if made != takes:
        raise ModelError(
            f"{shown}: beside the prompt {made} numbers are told and the denoiser takes {takes}.",
            hint="Its second text encoder belongs to another model, or it is a refiner; base models are traced.",
        )
    return _fitting(prompts, width, shown)


def _pixart(folder: Path, module: ModelMixin, index: dict[str, object], pixels: int, shown: str) -> PromptEncoder:
    kind = "sigma" if "Sigma" in str(index.get("_class_name")) else "alpha"
    encoder = _encoder(folder, "", (T5,), shown, reading="masked", length=PIXART_TOKENS[kind])
    told = bool(getattr(module, "use_additional_conditions", False))
    beside = (("resolution", (float(pixels), float(pixels))), ("aspect", (1.0,))) if told else ()
    width = module.config.get("caption_channels") or module.config.get("cross_attention_dim")
    assert isinstance(width, int)
    return _fitting(PromptEncoder((encoder,), beside), width, shown)


def _fitting(prompts: PromptEncoder, width: int, shown: str) -> PromptEncoder:
    made = prompts.read([""])["text"].shape[-1]
    if made != width:
        makes = "the text encoder makes" if len(prompts.encoders) == 1 else "the two text encoders make"
        raise ModelError(
            f"{shown}: {makes} {made} numbers a token and the denoiser takes {width}.",
            hint="They belong to different models.",
        )
    return prompts


def _encoder(
    folder: Path, suffix: str, kinds: tuple[str, ...], shown: str, *, reading: Reading = "last", length: int = 0
) -> TextEncoder:
    """Return one text encoder; ``length`` in tokens, 0 for as many as it says itself."""
    import transformers

    encoder_name, tokenizer_name = f"text_encoder{suffix}", f"tokenizer{suffix}"
    for name in (encoder_name, tokenizer_name):
        if not (folder / name).is_dir():
            raise ModelError(
                f"{shown} is conditioned on texts and has no {name}.",
                hint="Save the whole pipeline with save_pretrained, or name its folder as model.path.",
            )
    if not any((folder / encoder_name).glob("*.safetensors")):
        raise ModelError(
            f"{shown}/{encoder_name} has no safetensors weights; other files could run code.",
            hint="Load it once where you trust it and save it with save_pretrained(folder, safe_serialization=True).",
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder / encoder_name, local_files_only=True)
        kind = next(iter(config.architectures or ()), "")
        if kind not in kinds:
            raise ModelError(
                f"{shown}/{encoder_name}: a text encoder of kind {kind or 'unknown'} cannot be used.",
                hint=f"Supported here: {', '.join(kinds)}.",
            )
        encoder = getattr(transformers, kind).from_pretrained(
            folder / encoder_name,
            local_files_only=True,
            use_safetensors=True,
            variant=variant_of(folder / encoder_name),
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder / tokenizer_name, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        raise ModelError(
            f"The text encoder in {shown}/{encoder_name} cannot be loaded.",
            hint=f"The library says: {str(error).strip().splitlines()[0]}",
        ) from error
    encoder.float().eval().requires_grad_(False)
    return TextEncoder(
        tokenizer,
        encoder,
        length or _length(tokenizer, config),
        fingerprint(dict(encoder.state_dict()), kind, str(sorted(tokenizer.get_vocab().items()))),
        reading,
    )


def _length(tokenizer: PreTrainedTokenizerBase, config: object) -> int:
    """Return how many tokens a prompt has: as many as the tokenizer says, at most as many as there are positions."""
    positions = getattr(config, "max_position_embeddings", None)
    return min(int(tokenizer.model_max_length), positions if isinstance(positions, int) else LONGEST)
