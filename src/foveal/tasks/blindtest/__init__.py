"""BlindTest: geometric puzzles that people find trivial (arXiv 2407.06581)."""
