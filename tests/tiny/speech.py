"""Tiny random voices in real Hub layout, one builder per transformers class of the speech cards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from tests.tiny.reasoning import chat_tokenizer

LETTERS = " abcdefghijklmnopqrstuvwxyz'-.,?!0123456789"
AUDIO_MARKS = {
    "audio_bos_token_id": "<|vision_start|>",
    "audio_eos_token_id": "<|vision_end|>",
    "audio_token_id": "<|vision_pad|>",
}


def speecht5(folder: Path) -> None:
    import sentencepiece
    from transformers import (
        SpeechT5Config,
        SpeechT5FeatureExtractor,
        SpeechT5ForTextToSpeech,
        SpeechT5Processor,
        SpeechT5Tokenizer,
    )

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([LETTERS] * 20),
        model_prefix=str(folder / "spm_char"),
        model_type="char",
        vocab_size=50,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "spm_char.vocab").unlink()
    tokenizer = SpeechT5Tokenizer(str(folder / "spm_char.model"))
    config = SpeechT5Config(
        vocab_size=len(tokenizer) + 2,
        hidden_size=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        speech_decoder_prenet_units=16,
        speech_decoder_postnet_units=16,
        speech_decoder_postnet_layers=2,
        num_mel_bins=20,
        speaker_embedding_dim=16,
        max_text_positions=256,
        max_speech_positions=256,
    )
    torch.manual_seed(0)
    SpeechT5ForTextToSpeech(config).save_pretrained(folder)
    SpeechT5Processor(SpeechT5FeatureExtractor(num_mel_bins=20), tokenizer).save_pretrained(folder)


def hifigan(folder: Path) -> None:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(
        model_in_dim=20,
        upsample_initial_channel=16,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
        initializer_range=0.1,
    )
    torch.manual_seed(0)
    SpeechT5HifiGan(config).save_pretrained(folder)


def vits(folder: Path) -> None:
    from transformers import VitsConfig, VitsModel, VitsTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocab = {letter: i for i, letter in enumerate(LETTERS)} | {"<unk>": len(LETTERS)}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    tokenizer = VitsTokenizer(str(folder / "vocab.json"), language="eng", phonemize=False, pad_token=" ")
    config = VitsConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        ffn_dim=16,
        flow_size=16,
        spectrogram_bins=17,
        prior_encoder_num_flows=1,
        prior_encoder_num_wavenet_layers=1,
        posterior_encoder_num_wavenet_layers=1,
        duration_predictor_num_flows=1,
        duration_predictor_filter_channels=16,
        depth_separable_num_layers=1,
        wavenet_dilation_rate=1,
        upsample_initial_channel=16,
        upsample_rates=[8, 8],
        upsample_kernel_sizes=[16, 16],
        resblock_kernel_sizes=[3],
        resblock_dilation_sizes=[[1, 3, 5]],
    )
    torch.manual_seed(0)
    VitsModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def vibevoice(folder: Path) -> None:
    from transformers import (
        Qwen2Config,
        VibeVoiceAcousticTokenizerConfig,
        VibeVoiceAcousticTokenizerFeatureExtractor,
        VibeVoiceConfig,
        VibeVoiceForConditionalGeneration,
        VibeVoiceProcessor,
    )
    from transformers.models.vibevoice.configuration_vibevoice import VibeVoiceDiffusionHeadConfig
    from transformers.models.vibevoice_acoustic_tokenizer.configuration_vibevoice_acoustic_tokenizer import (
        VibeVoiceAcousticTokenizerEncoderConfig,
    )

    tokenizer = chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(AUDIO_MARKS.values())})
    tokenizer.chat_template = (
        "{% for m in messages %} Speaker {{ m['role'] }}:{% for c in m['content'] %}{{ c['text'] }}{% endfor %}\n"
        "{% endfor %} Speech output:\n<|vision_start|>"
    )
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in AUDIO_MARKS.items()}
    small = {"num_filters": 2, "downsampling_ratios": [4, 10], "depths": [1, 1, 1]}
    config = VibeVoiceConfig(
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
        ),
        audio_config=VibeVoiceAcousticTokenizerConfig(hidden_size=8, **small),
        semantic_model_config=VibeVoiceAcousticTokenizerEncoderConfig(hidden_size=8, **small),
        diffusion_head_config=VibeVoiceDiffusionHeadConfig(
            hidden_size=16, latent_size=8, num_hidden_layers=1, intermediate_size=16, frequency_embedding_size=8
        ),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **ids,
    )
    torch.manual_seed(0)
    model = VibeVoiceForConditionalGeneration(config)
    model.generation_config.num_diffusion_steps = 2
    _make_talkative(model, tokenizer.convert_tokens_to_ids("<|vision_pad|>"))
    model.save_pretrained(folder)
    extractor = VibeVoiceAcousticTokenizerFeatureExtractor(pad_to_multiple_of=40)
    VibeVoiceProcessor(extractor, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)


def _make_talkative(model: torch.nn.Module, audio: int) -> None:
    """Random weights end the speech at once; these always choose one more piece of sound."""
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[audio, 0] = 1.0
        model.model.language_model.embed_tokens.weight[:, 0] = 1.0
        model.model.multi_modal_projector.linear_2.bias[0] = 1.0


def whisper(folder: Path) -> None:
    """Ears that write whatever their random weights make of a sound."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    letters = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    marks = ["<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer = WhisperTokenizer({letter: i for i, letter in enumerate(letters)}, [])
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in [*marks, "<|endoftext|>"]}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=80,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=32,
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"], "<|zh|>": ids["<|zh|>"]},
        task_to_id={"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
        max_length=24,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=80), tokenizer).save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "SpeechT5ForTextToSpeech": speecht5,
    "SpeechT5HifiGan": hifigan,
    "VitsModel": vits,
    "WhisperForConditionalGeneration": whisper,
    "VibeVoiceForConditionalGeneration": vibevoice,
}
