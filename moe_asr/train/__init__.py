"""Training: the loop, its optimiser and schedules, checkpoints and their averages."""
