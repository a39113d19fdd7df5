"""The task contract, its registry, and the tasks."""
