"""The recipes that made `assets/weights`: one folder per starter model, run with `python -m training.<name>.<step>`."""
