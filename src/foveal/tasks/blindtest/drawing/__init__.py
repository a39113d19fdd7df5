"""How the puzzles' pictures are drawn: anti-aliased shapes, lines and letters, and their colours."""
