"""The doors: web page, REST, OpenAI routes and command line. Only here is gradio imported."""

from __future__ import annotations

# Tabs in the order they are shown; each is demos/<name>.py with demos/locales/<name>.toml.
TABS = ("reasoning", "speech", "captioning", "text_to_image", "retrieval", "emotion", "models")
