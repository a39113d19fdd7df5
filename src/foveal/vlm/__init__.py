"""One VLM of any family: loading, components, adapters, encoding, losses and scoring."""

import logging

# peft imports bitsandbytes wherever it is installed, which then warns at every start that it misses a kernel of its own.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
