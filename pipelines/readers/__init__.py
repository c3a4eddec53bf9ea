"""Parts of the reader of texts (pipelines/reading.py): figures into words, words into sounds, for two languages."""
