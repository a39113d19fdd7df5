"""Foveal teaches vision-language models to see detail."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # The Python interface is imported when it is used: the command line starts faster without it.
    if name in ("load", "Model", "Answer"):
        from foveal.quiet import quiet

        quiet(bars=True)  # before the libraries are imported
        from foveal import api

        return getattr(api, name)
    raise AttributeError(f"module 'foveal' has no attribute {name!r}")
