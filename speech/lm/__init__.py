"""Codec language models: text → first codebook (autoregressive) → the rest (masked, parallel)."""
