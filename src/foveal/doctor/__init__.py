"""`foveal doctor`: whether this machine can do what a recipe asks, found out in a minute rather than in a long run."""
