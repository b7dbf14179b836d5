"""Language directories: made in steps that know what they came from, and validated."""
