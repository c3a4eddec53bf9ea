"""The baseline of benchmarks.startup: the smallest honest Gradio app with six tabs. Usage: PORT as argument."""

from __future__ import annotations

import sys

import gradio as gr

with gr.Blocks() as demo, gr.Tabs():
    for name in ("captioning", "text to image", "retrieval", "speech", "emotion", "reasoning"):
        with gr.Tab(name):
            box = gr.Textbox(label="input")
            gr.Button("run").click(lambda text: text, box, gr.Textbox(label="output"))

if __name__ == "__main__":
    demo.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), quiet=True)
