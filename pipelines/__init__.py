"""The engine room: tasks, models and limits. Knows nothing of gradio or of any door."""
