"""Sequential counting: point at the next one that is not marked yet, until done."""
