"""What was measured as a page, its charts, cards and pictures."""
