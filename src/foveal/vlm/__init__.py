"""One VLM of any family: finding, loading, components, adapters, encoding, scoring, losses and replies."""
