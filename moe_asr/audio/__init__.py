"""Waveforms and features: reading, resampling, fbank (offline and online), CMVN statistics."""
