"""Upload of a trained model to the hub, at the end of a run."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytorch_lightning as pl

from transformers_framework.callbacks.model_card import CARD, described_source
from transformers_framework.distributed.ranks import is_rank_zero
from transformers_framework.exceptions import ConfigurationError
from transformers_framework.processing.json_text import to_json
from transformers_framework.restricted import Pattern
from transformers_framework.run_parts import EndsRun

if TYPE_CHECKING:
    from transformers_framework.run_parts import Run

RepositoryName = Annotated[str, Pattern(r"[\w.-]+/[\w.-]+\Z", "user/name")]
FIGURES = "figures"
PRIVATE_RESULTS = ("folders",)  # entries of results.json with paths

logger = logging.getLogger(__name__)


def hub_upload(
    run: Run, *, push_to_hub: RepositoryName | None = None, push_to_hub_public: bool = False
) -> HubUpload | None:
    """Return the callback that uploads the trained model.

    Args:
        run: The run.
        push_to_hub: Upload best (final if nothing is monitored) with its card, results and figures to this repository
            of the hub, user/name, at the end of the run. The token is that of HF_TOKEN or of `hf auth login`.
        push_to_hub_public: Upload to a public repository; by default it is private.

    Raises:
        ConfigurationError: When nothing could be uploaded, known before training.
    """
    if push_to_hub is None or run.is_fast_dev_run:
        return None
    if run.options.get("train_dataset") is None:
        raise ConfigurationError(
            "--push_to_hub uploads a model at the end of its training, and there is no --train_dataset. Upload an "
            f"export with: {by_hand(push_to_hub, Path('FOLDER'), is_public=push_to_hub_public)}"
        )
    if is_rank_zero():
        check_access(push_to_hub, is_public=push_to_hub_public)
    return HubUpload(push_to_hub, is_public=push_to_hub_public)


def by_hand(repository: str, folder: Path, *, is_public: bool) -> str:
    """Return the command that uploads an export."""
    return f"hf upload {repository} {shlex.quote(str(folder))} .{'' if is_public else ' --private'}"


def check_access(repository: str, *, is_public: bool) -> None:
    """Check before training that a model can be uploaded; if the hub cannot be reached now, this is only logged.

    Args:
        repository: Name of the repository, which may not exist yet.
        is_public: Whether it may be public.

    Raises:
        ConfigurationError: When the name is not valid, there is no valid token, the hub is switched off, or the
            repository is public.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigurationError(f"--push_to_hub {repository}: {error} Give a name like user/name.") from None
    if constants.is_offline_mode():
        raise ConfigurationError("--push_to_hub: HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it.")
    if get_token() is None:
        raise ConfigurationError(
            "--push_to_hub: there is no token of the hub. Log in with `hf auth login`, or set HF_TOKEN to a token with "
            "write access."
        )
    try:
        api = HfApi()
        api.whoami()
        is_private = api.model_info(repository).private
    except RepositoryNotFoundError:
        return
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code == 401:
            raise ConfigurationError(
                "--push_to_hub: the hub does not accept the token. Log in with `hf auth login`, or set HF_TOKEN to a "
                "valid token with write access."
            ) from None
        logger.warning("--push_to_hub: access to %s could not be checked (%s).", repository, _reason(error))
        return
    except Exception as error:
        logger.warning("--push_to_hub: the hub could not be reached to check %s (%s).", repository, _reason(error))
        return
    if not is_private and not is_public:
        raise ConfigurationError(
            f"--push_to_hub {repository}: this repository is public. Give --push_to_hub_public to upload to it, or "
            "another name."
        )


class HubUpload(pl.Callback, EndsRun):
    """Upload the model that was trained when the run has ended; a failure is only logged.

    Args:
        repository: Name of the repository, which is created if necessary.
        is_public: Whether it may be public.
    """

    def __init__(self, repository: str, *, is_public: bool) -> None:
        self.repository, self.is_public = repository, is_public

    def on_run_end(self, run: Run) -> None:
        """Upload the best state, else the last one."""
        if not run.trainer.is_global_zero:
            return
        folder = run.folders.export
        assert folder is not None, "a run that trains has one"
        try:
            self._upload(folder, run)
        except Exception as error:  # no failure of the upload may fail a run that is complete
            logger.warning(
                "--push_to_hub: %s was not uploaded to %s (%s). The run is complete. Upload it with: %s",
                *(folder, self.repository, _reason(error)),
                by_hand(self.repository, folder, is_public=self.is_public),
            )

    def _upload(self, folder: Path, run: Run) -> None:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
        api = HfApi()
        where = api.create_repo(self.repository, private=not self.is_public, exist_ok=True)
        if not self.is_public and not api.model_info(self.repository).private:
            raise PermissionError("the repository is public, and --push_to_hub_public is not given")
        figures = sorted((run.folders.predictions / FIGURES).glob("*.png"))
        files: dict[str, Any] = {
            path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
        }
        files |= {f"{FIGURES}/{path.name}": path for path in figures}
        files[CARD] = self._card((folder / CARD).read_text("utf-8"), figures).encode()
        if run.folders.results.exists():
            files["results.json"] = public_results(json.loads(run.folders.results.read_text("utf-8"))).encode()
        additions = [CommitOperationAdd(name, content) for name, content in files.items()]
        logger.info("Uploading %d files of %s to %s", len(files), folder, where)
        api.create_commit(self.repository, additions, commit_message=f"Model of run {run.folders.name}")
        logger.info("The model is at %s (%s)", where, "public" if self.is_public else "private")

    def _card(self, text: str, figures: list[Path]) -> str:
        """Return the card with the name of the repository and with figures."""
        from transformers_framework.callbacks.card_usage import FOLDER

        folder, _, comment = FOLDER.partition("  #")
        text = text.replace(f"  #{comment}", "").replace(f"model={folder})", f'model="{self.repository}")')
        text = text.replace(f"({folder})", f'("{self.repository}")').replace(f"= {folder}", f'= "{self.repository}"')
        shown = "".join(f"![{path.stem}]({FIGURES}/{path.name})\n" for path in figures)
        return text.replace("\n## Data\n", f"\n## Figures\n\n{shown}\n## Data\n", 1) if shown else text


def public_results(results: dict[str, Any]) -> str:
    """Return results without paths and addresses, as text of a JSON file.

    Args:
        results: Contents of ``results.json``.
    """
    public = {name: value for name, value in results.items() if name not in PRIVATE_RESULTS}
    data = public.get("data") or {}
    for stage, described in data.items():
        if isinstance(described, dict) and isinstance(described.get("source"), str):
            data[stage] = described | {"source": described_source(described["source"]).strip("`")}
    return to_json(public, indent=2) + "\n"


def _reason(error: BaseException) -> str:
    """Return the first line of an error, which has no token."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
