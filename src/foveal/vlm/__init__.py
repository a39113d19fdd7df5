"""One VLM of any family: loading, components, adapters, encoding, losses and scoring."""
