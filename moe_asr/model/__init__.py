"""The U2++ model: configuration, losses, encoding in both modes, saving and loading."""
