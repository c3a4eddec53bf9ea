"""The parts of retrieval: how each family of models is read, what is searched and how, and the figures."""
