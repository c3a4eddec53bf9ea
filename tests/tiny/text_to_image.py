"""Tiny random diffusion pipelines in real Hub layout, one builder per diffusers class of the text-to-image cards.

Pictures of 64 x 64 come out of autoencoders that halve them once (latents 32 x 32) or three times (Qwen-Image).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _bytes(*special: str) -> dict[str, int]:
    return {token: i for i, token in enumerate([*sorted(ByteLevel.alphabet()), *special])}


def clip_tokenizer() -> Any:
    """A CLIP tokenizer that spells every text byte by byte."""
    from transformers import CLIPTokenizer

    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77)


def clip_text(projected: bool = False) -> Any:
    """A CLIP text encoder of width 32."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    vocab = len(clip_tokenizer())
    config = CLIPTextConfig(
        vocab_size=vocab, hidden_size=32, intermediate_size=37, projection_dim=32, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=77, bos_token_id=vocab - 2, eos_token_id=vocab - 1,
        pad_token_id=vocab - 1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def qwen_tokenizer() -> Any:
    """A byte-level tokenizer with Qwen's special tokens and a ChatML template."""
    from transformers import Qwen2Tokenizer

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    tokenizer = Qwen2Tokenizer(vocab=_bytes(*special), merges=[], model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.chat_template = CHATML
    return tokenizer


def qwen3(layers: int) -> Any:
    """A Qwen3 of width 16, as deep as the pipeline looks into it."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(qwen_tokenizer()), hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
            num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=2048,
            bos_token_id=256, eos_token_id=256, pad_token_id=256,
        )
    )  # fmt: skip


def _vae(channels: int = 4, **more: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, latent_channels=channels, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **more,
    )  # fmt: skip


def _unet(**more: Any) -> Any:
    from diffusers import UNet2DConditionModel

    given = {
        "block_out_channels": (16, 32), "layers_per_block": 1, "sample_size": 32, "cross_attention_dim": 32,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "attention_head_dim": 8,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "norm_num_groups": 8,
    } | more  # fmt: skip
    return UNet2DConditionModel(**given)


def _scheduler(name: str) -> Any:
    import diffusers

    sd = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    more: dict[str, Any] = {
        "PNDMScheduler": {"skip_prk_steps": True, "steps_offset": 1, **sd},
        "LCMScheduler": sd,
        "EulerDiscreteScheduler": {"timestep_spacing": "leading", "steps_offset": 1, **sd},
        "FlowMatchEulerDiscreteScheduler": {"use_dynamic_shifting": True},
    }
    return getattr(diffusers, name)(**more[name])


def _no_checker() -> dict[str, Any]:
    return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _save(folder: Path, cls: str, **parts: Any) -> None:
    import diffusers

    getattr(diffusers, cls)(**parts).save_pretrained(folder, safe_serialization=True)


def stable_diffusion(folder: Path) -> None:
    torch.manual_seed(0)
    parts = {"text_encoder": clip_text(), "tokenizer": clip_tokenizer(), "unet": _unet(), "vae": _vae()}
    _save(folder, "StableDiffusionPipeline", scheduler=_scheduler("PNDMScheduler"), **parts, **_no_checker())


def stable_diffusion_bert(folder: Path) -> None:
    """As Taiyi: the same class with a Chinese BERT where CLIP was."""
    from transformers import BertConfig, BertModel, BertTokenizer

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一只猫飞流直下三千尺水彩"]
    tokenizer = BertTokenizer(vocab={w: i for i, w in enumerate(dict.fromkeys(words))}, model_max_length=64)
    bert = BertModel(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=37, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=64,
        )
    )  # fmt: skip
    parts = {"text_encoder": bert, "tokenizer": tokenizer, "unet": _unet(), "vae": _vae()}
    _save(folder, "StableDiffusionPipeline", scheduler=_scheduler("PNDMScheduler"), **parts, **_no_checker())


def latent_consistency(folder: Path) -> None:
    torch.manual_seed(0)
    parts = {"text_encoder": clip_text(), "tokenizer": clip_tokenizer(), "vae": _vae()}
    unet = _unet(time_cond_proj_dim=32)
    _save(
        folder, "LatentConsistencyModelPipeline", unet=unet, scheduler=_scheduler("LCMScheduler"), **parts,
        **_no_checker(),
    )  # fmt: skip


def stable_diffusion_xl(folder: Path) -> None:
    torch.manual_seed(0)
    unet = _unet(
        cross_attention_dim=64, transformer_layers_per_block=(1, 2), attention_head_dim=(2, 4),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,  # six times 8 for the sizes, 32 for the pooled text
    )  # fmt: skip
    _save(
        folder, "StableDiffusionXLPipeline", vae=_vae(), unet=unet, scheduler=_scheduler("EulerDiscreteScheduler"),
        text_encoder=clip_text(), text_encoder_2=clip_text(projected=True), tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(), add_watermarker=False,
    )  # fmt: skip


def z_image(folder: Path) -> None:
    from diffusers import ZImageTransformer2DModel

    torch.manual_seed(0)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[8, 4, 4], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    torch.nn.init.normal_(transformer.x_pad_token)
    _save(
        folder, "ZImagePipeline", scheduler=_scheduler("FlowMatchEulerDiscreteScheduler"), transformer=transformer,
        vae=_vae(shift_factor=0.1), text_encoder=qwen3(2).model, tokenizer=qwen_tokenizer(),
    )  # fmt: skip


def flux2_klein(folder: Path) -> None:
    from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel

    torch.manual_seed(0)
    vae = AutoencoderKLFlux2(
        block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1, latent_channels=4, sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    torch.nn.init.normal_(vae.bn.running_mean)
    torch.nn.init.uniform_(vae.bn.running_var, 0.5, 2.0)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, timestep_guidance_channels=32, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    )  # fmt: skip
    _save(
        folder, "Flux2KleinPipeline", scheduler=_scheduler("FlowMatchEulerDiscreteScheduler"), vae=vae,
        text_encoder=qwen3(28), tokenizer=qwen_tokenizer(), transformer=transformer, is_distilled=True,
    )  # fmt: skip


def qwen_image(folder: Path) -> None:
    from diffusers import AutoencoderKLQwenImage, QwenImageTransformer2DModel

    torch.manual_seed(0)
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[2.0, 1.5, 1.0, 0.5],
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    _save(
        folder, "QwenImagePipeline", scheduler=_scheduler("FlowMatchEulerDiscreteScheduler"), vae=vae,
        text_encoder=_qwen25_vl(), tokenizer=qwen_tokenizer(), transformer=transformer,
    )  # fmt: skip


def _qwen25_vl() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    tokenizer = qwen_tokenizer()
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")
    }
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        "fullatt_block_indexes": [0],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, image_token_id=image, video_token_id=image, **ids)
    return Qwen2_5_VLForConditionalGeneration(config)


LCM_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2",
    "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj",
)  # fmt: skip


def lcm_lora(folder: Path, rank: int = 2) -> None:
    """A LoRA as latent-consistency publishes it: kohya's names, on linear layers and convolutions of the UNet."""
    from safetensors.torch import save_file

    torch.manual_seed(1)
    tensors = {}
    for name, module in _unet().named_modules():
        if not name.endswith(LCM_TARGETS):
            continue
        out, into, *kernel = module.weight.shape
        key = "lora_unet_" + name.replace(".", "_")
        tensors[f"{key}.lora_down.weight"] = torch.randn(rank, into, *kernel) * 0.3
        tensors[f"{key}.lora_up.weight"] = torch.randn(out, rank, *(1 for _ in kernel)) * 0.3
        tensors[f"{key}.alpha"] = torch.tensor(float(rank))
    folder.mkdir(parents=True)
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")


BUILDERS: dict[str, Callable[[Path], None]] = {
    "StableDiffusionPipeline": stable_diffusion,
    "LatentConsistencyModelPipeline": latent_consistency,
    "StableDiffusionXLPipeline": stable_diffusion_xl,
    "ZImagePipeline": z_image,
    "Flux2KleinPipeline": flux2_klein,
    "QwenImagePipeline": qwen_image,
}
