"""Pre-training and fine-tuning of encoder and encoder-decoder transformers from one command line, or from Python.

Nothing is imported before one of the names is used.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from transformers_framework.api import RunResult, run
    from transformers_framework.exceptions import ConfigurationError, DataError, RunError, UserError
    from transformers_framework.families import Family
    from transformers_framework.losses.retrieval.table import RetrievalLoss
    from transformers_framework.registration import (
        register_logger,
        register_model,
        register_optimizer,
        register_pipeline,
        register_retrieval_loss,
        register_scheduler,
    )
    from transformers_framework.serving.model import LoadedModel, load
    from transformers_framework.specs import PipelineSpec, Variant

# name -> module that has it
_MODULES = {
    **dict.fromkeys(("RunResult", "run"), "api"),
    **dict.fromkeys(("ConfigurationError", "DataError", "RunError", "UserError"), "exceptions"),
    **dict.fromkeys(("PipelineSpec", "Variant"), "specs"),
    "Family": "families",
    "RetrievalLoss": "losses.retrieval.table",
    **{f"register_{kind}": "registration" for kind in ("logger", "model", "optimizer", "pipeline", "scheduler")},
    "register_retrieval_loss": "registration",
    **dict.fromkeys(("LoadedModel", "load"), "serving.model"),
}

__all__ = [
    "ConfigurationError",
    "DataError",
    "Family",
    "LoadedModel",
    "PipelineSpec",
    "RetrievalLoss",
    "RunError",
    "RunResult",
    "UserError",
    "Variant",
    "load",
    "register_logger",
    "register_model",
    "register_optimizer",
    "register_pipeline",
    "register_retrieval_loss",
    "register_scheduler",
    "run",
]


def __getattr__(name: str) -> object:
    """Import the module that has a name, when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    import importlib

    found: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the names that can be used."""
    return [*globals(), *_MODULES]
