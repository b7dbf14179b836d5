"""What a user runs: audio in, partial and final results out, for files, a microphone, and many streams."""
