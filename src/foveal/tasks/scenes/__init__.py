"""What the tasks' generated scenes share."""
