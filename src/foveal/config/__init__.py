"""The recipe: its typed sections, reading it, and finding it by name."""
