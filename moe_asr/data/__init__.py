"""Recordings, manifests and batches: corpus adapters, augmentation, sampling, datasets."""
