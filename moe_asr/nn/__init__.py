"""Layers: subsampling, attention, convolution, mixtures of experts, encoder, decoder, caches."""
