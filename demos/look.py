"""How the page looks: an accessible theme without foreign fonts, and the style sheet."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLES = ASSETS / "examples"

FONTS = ["system-ui", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans", "sans-serif"]

# Gradio's own grey for hints and its orange buttons are too pale to read (WCAG AA). Its bundled fonts lack letters in
# their semi-bold cut, so the system's are used.
THEME = gr.themes.Default(
    primary_hue="indigo",
    neutral_hue="slate",
    radius_size="lg",
    font=FONTS,
    font_mono=["ui-monospace", "Consolas", "Menlo", "monospace"],
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    input_placeholder_color="*neutral_500",
    input_placeholder_color_dark="*neutral_400",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    button_cancel_background_fill="#b91c1c",
    button_cancel_background_fill_hover="#991b1b",
    button_cancel_background_fill_dark="#b91c1c",
    button_cancel_background_fill_hover_dark="#dc2626",
    button_cancel_text_color="white",
    button_cancel_text_color_dark="white",
)


def css() -> str:
    """The style sheet as text: Gradio puts it into the page itself."""
    return (ASSETS / "page.css").read_text(encoding="utf-8")
