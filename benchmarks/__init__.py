"""One script per claim about speed or memory, each against a baseline measured in the same run."""
