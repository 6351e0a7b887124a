"""``python -m transformers_framework.examples``: copy the example configs and the demo into a folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.exceptions import ConfigurationError
from transformers_framework.restricted import LocalPath

if TYPE_CHECKING:
    from transformers_framework.cli.tool import Values

USAGE = "python -m transformers_framework.examples [flags]"
PACKAGED = Path(__file__).parent / "example_files"  # setup.py puts them there; in a clone they are beside the package


def example_files() -> list[Path]:
    """Return the files of the examples, sorted by name."""
    folder = PACKAGED if PACKAGED.is_dir() else Path(__file__).parent.parent / "examples"
    return sorted(path for path in folder.iterdir() if path.is_file())


def copy_examples(*, output: LocalPath = "examples", overwrite: bool = False) -> list[Path]:
    """Copy the config files of all pipelines, and the scripts of the demo and its data, into a folder.

    Args:
        output: Folder of the copies.
        overwrite: Replace files of the same names.

    Raises:
        ConfigurationError: When a file exists, or the folder cannot be written.
    """
    from transformers_framework.storage.atomic import atomic_file

    folder, sources = Path(output), example_files()
    present = [source.name for source in sources if (folder / source.name).exists()]
    if present and not overwrite:
        found = f"{present[0]} and {len(present) - 1} more exist" if len(present) > 1 else f"{present[0]} exists"
        raise ConfigurationError(f"--output {output}: {found}. Choose another folder, or add --overwrite.")
    try:
        for source in sources:
            with atomic_file(folder / source.name) as aside:
                shutil.copyfile(source, aside)
    except OSError as error:
        raise ConfigurationError(f"--output {output}: it cannot be written ({error.strerror}).") from error
    return [folder / source.name for source in sources]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status, see :func:`cli.tool.run_tool`.

    Args:
        argv: The words after the program's name; those of the process when absent.
    """
    from transformers_framework.cli.tool import run_function

    return run_function(argv, _command, copy_examples, title="examples", usage=USAGE, needs_flags=False)


def _command(values: Values) -> None:
    copied = copy_examples(**values.own)
    folder = copied[0].parent
    num_configs = sum(path.suffix == ".yaml" for path in copied)
    sys.stdout.write(
        f"{folder}: {num_configs} config files, and the demo. Create the data, then train:\n"
        f"  python {folder / 'demo_data.py'} outputs/demo/data\n"
        f"  python -m transformers_framework --config {folder / 'answer_selection.yaml'}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
