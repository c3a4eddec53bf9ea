"""The core: standard library only. Knows no task, no model family and no web framework."""
