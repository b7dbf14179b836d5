"""Decoding methods, and the runner that applies them to manifests."""
