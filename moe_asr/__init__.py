"""FSA decoding and training around the U2++ MoE Conformer (arXiv 2404.16407)."""

__version__ = "0.1.0"
