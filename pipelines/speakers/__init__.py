"""Parts of the speech task (pipelines/speech.py): one text recited, mended in one place, several at once, measured."""
