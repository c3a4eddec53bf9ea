"""Network architectures trained here: plain torch modules, built from a config and loaded from safetensors."""
