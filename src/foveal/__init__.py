"""Foveal teaches vision-language models to see detail."""

import logging

__version__ = "0.1.0"

# accelerate and peft import bitsandbytes wherever it is installed, which then warns that it misses a kernel of its own.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
