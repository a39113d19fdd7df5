"""The one trainer and what plugs into it."""
