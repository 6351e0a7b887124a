"""Loading of plug-ins: packages of ``--import``, and installed packages with an entry point.

An installed package declares an entry point of the group ``transformers_framework.plugins``. Its name is listed by
``--help``; it is imported only when a name is in no table, or for the help of a run.
"""

from __future__ import annotations

from importlib import metadata

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.import_paths import absent_module, import_module, resolve

GROUP = f"{__package__}.plugins"


def import_packages(flag: str = "--import", *, import_: tuple[str, ...] = ()) -> None:
    """Import packages, which register their pieces.

    Args:
        flag: Flag that names them, for messages.
        import_: Packages or modules to import before anything else: they add pipelines, models, optimizers, schedulers
            and loggers, see docs/plugins.md. Their code is executed, so import only packages that you trust.

    Raises:
        ConfigurationError: When there is no such package, or when importing it fails.
    """
    for name in import_:
        if not name or not all(part.isidentifier() for part in name.split(".")):
            raise ConfigurationError(f"{flag}: found '{name or 'nothing'}', expected the name of a package or module.")
        if name.endswith(".py"):
            raise ConfigurationError(f"{flag} {name}: {absent_module(name)}")
        import_module(name, f"{flag} {name}")


def installed() -> dict[str, str]:
    """Return the packages that are installed and add rows, by the names of their entry points; imports none."""
    found = metadata.entry_points(group=GROUP)
    return {point.name: point.value for point in sorted(found, key=lambda point: point.name)}


def load_installed() -> None:
    """Import the packages that :func:`installed` lists; an entry point that names a function calls it.

    Raises:
        ConfigurationError: When importing one fails, with its name.
    """
    for name, path in installed().items():
        start = f"The installed plug-in '{name}'"
        if ":" in path:
            resolve(path, start)()
        else:
            import_module(path, start)
