from foveal.api import Answer, Model, Trained, evaluate, load, train
from foveal.config.sections import Recipe
from foveal.errors import UserError
from foveal.examples import Example
from foveal.images import Picture
from foveal.prompts import Prompt
from foveal.results import Metric, Metrics, Prediction, Result
from foveal.tasks.task import Task

__all__ = [
    "Answer",
    "Example",
    "Metric",
    "Metrics",
    "Model",
    "Picture",
    "Prediction",
    "Prompt",
    "Recipe",
    "Result",
    "Task",
    "Trained",
    "UserError",
    "__version__",
    "evaluate",
    "load",
    "train",
]

__version__: str
