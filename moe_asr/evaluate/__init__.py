"""Word error rates and alignments."""
