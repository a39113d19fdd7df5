"""Foveal teaches vision-language models to see detail.

What a user needs is here; ``__init__.pyi`` holds the same names for type checkers. A name's module is imported when it is
first used, so that ``import foveal`` and ``foveal --help`` take no time.
"""

import importlib

__version__ = "0.1.0"

#: Name -> module.
_HOMES = {
    "Answer": "api", "Example": "examples", "Metric": "results", "Metrics": "results", "Model": "api", "Picture": "images",
    "Prediction": "results", "Prompt": "prompts", "Recipe": "config.sections", "Result": "results", "Task": "tasks.task",
    "Trained": "api", "UserError": "errors", "evaluate": "api", "load": "api", "train": "api",
}  # fmt: skip
__all__ = ["__version__"]
__all__ += list(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'foveal' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"foveal.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
