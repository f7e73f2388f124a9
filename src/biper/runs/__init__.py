"""A run on disk: its folder, its checkpoints, the state in them, and the environment that it ran in."""
