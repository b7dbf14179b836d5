"""Inference of the encoder on CPUs, compiled by numba: packed weights, float32 or int8, several threads."""
