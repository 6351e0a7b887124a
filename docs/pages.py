"""Hook of MkDocs: pages made from other files of the repository, from the registry and from signatures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from transformers_framework.cli.flags import Flag
from transformers_framework.cli.parser import Groups, groups_of
from transformers_framework.cli.values import describe
from transformers_framework.registry import LOGGERS, OPTIMIZERS, PIPELINES, SCHEDULERS, PipelineSpec, resolve

ROOT = Path(__file__).parent.parent
# files of the repository that are pages or pictures of the site
COPIED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "transformers_framework/pipelines/README.md": "architecture.md",
    "transformers_framework.svg": "transformers_framework.svg",
}
# the guide that explains a pipeline, by what its name has
GUIDES = {
    "answer_selection": ("joint_reranking.md",),
    "question_answering": ("question_answering.md",),
    "retrieval": ("retrieval.md",),
    "denoising": ("sequence_to_sequence.md",),
    "summarization": ("sequence_to_sequence.md",),
    "masked_lm": ("pretraining.md",),
    "swapped_lm": ("pretraining.md",),
    "detection": ("pretraining.md",),
    "": ("first_run.md",),
}
OF_THE_TABLES = {"optimizer": OPTIMIZERS, "scheduler": SCHEDULERS, "loggers": LOGGERS}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of pipelines into the navigation."""
    for section in config.nav or []:
        if "Pipelines" in section:
            section["Pipelines"] = [{name: f"pipelines/{name}.md"} for name in PIPELINES]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for source, page in COPIED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for name, spec in PIPELINES.items():
        files.append(File.generated(config, f"pipelines/{name}.md", content=pipeline_page(name, spec)))
    files.append(File.generated(config, "reference/flags.md", content=flags_page()))
    files.append(File.generated(config, "reference/python.md", content=python_page()))
    files.append(File.generated(config, "llms.txt", content=llms_page(files)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links to files of the repository lead to the pages made of them; files that are no pages become code."""
    source = next((name for name, made in COPIED.items() if made == page.file.src_uri), f"docs/{page.file.src_uri}")
    folder = Path(source).parent

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        path, _, title = target.partition("#")
        if "://" in target or not path or source.startswith(("docs/pipelines/", "docs/reference/")):
            return found[0]
        wanted = os.path.normpath(folder / path)
        to = COPIED.get(wanted) or (wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
        if to is None:
            return text if text.startswith("`") else f"`{text}`"
        relative = os.path.relpath(to, Path(page.file.src_uri).parent)
        return f"{mark}[{text}]({relative}{'#' * bool(title)}{title})"

    return re.sub(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)", link, markdown)


def pipeline_page(name: str, spec: PipelineSpec) -> str:
    """Return the page of a pipeline: goal, data, an example that runs, its flags, where it is explained."""
    groups = groups_of({"pipeline": name, "model": "auto"})
    variants = [spec.variant(flag) for flag in spec.variants]
    more = [groups_of({"pipeline": name, "model": "auto", flag: "5"}) for flag in spec.variants]
    example = (ROOT / "examples" / f"{name}.yaml").read_text("utf-8").rstrip()
    guides = next(pages for part, pages in GUIDES.items() if part in name)
    explained = [f"[{page.removesuffix('.md').replace('_', ' ')}](../{page})" for page in guides]
    heads = ", ".join(f"`{resolve(path).__name__}` ({resolve(path).head})" for path in spec.objectives)
    title = f"pipeline {name}"
    own = {**groups[title], **{flag: f for each in more for flag, f in each[title].items()}}
    return "\n".join(
        [
            f"# {name}",
            "",
            f"**Learns** {spec.learns}.",
            "",
            f"**Needs** {spec.needs}.",
            "",
            f"**Objectives** (heads of transformers): {heads}.",
            *([f"\n**Variants**: {', '.join(f'`-{flag}`' for flag in spec.variants)}."] if variants else []),
            "",
            f"Explained in {' and '.join(explained)}. Names in logs: [metrics](../metrics.md).",
            "",
            "## An example",
            "",
            f"`examples/{name}.yaml` runs on data that its first lines create:",
            "",
            "```yaml",
            example,
            "```",
            "",
            "```bash",
            f"python -m transformers_framework --config examples/{name}.yaml --check",
            "```",
            "",
            "## Flags of this pipeline",
            "",
            *flag_table(own.values()),
            "",
            "All others: [flags](../reference/flags.md).",
            "",
        ]
    )


def flags_page() -> str:
    """Return the page of the flags that all pipelines have."""
    chosen: dict[str, str] = {"pipeline": "seq_class", "model": "auto"}
    groups: Groups = groups_of(chosen)
    lines = ["# All flags", "", "Flags that every pipeline has; those of one are on its page."]
    for title in ("model", "data", "optimization", "selection", "run", "trainer"):
        lines += ["", f"## {title.capitalize()}", "", *flag_table(groups[title].values())]
    for flag, rows in OF_THE_TABLES.items():
        for row in rows:
            of_row = groups_of({**chosen, flag: row})
            new = [
                f for flags in of_row.values() for f in flags.values() if not any(f.name in g for g in groups.values())
            ]
            if new:
                lines += ["", f"## --{flag} {row}", "", *flag_table(new)]
    return "\n".join(lines) + "\n"


def flag_table(flags: Any) -> Iterator[str]:
    """Yield the lines of a table of flags: name, values, default and meaning."""
    yield "| flag | value | default | meaning |"
    yield "|---|---|---|---|"
    for flag in flags:
        cells = (
            f"`{flag.dashed}`",
            _cell(describe(flag.hint)).removesuffix(" or none"),
            _default(flag),
            _cell(flag.help),
        )
        yield f"| {' | '.join(cells)} |"


def _default(flag: Flag) -> str:
    if flag.is_required:
        return "required"
    shown = flag.shown_default if flag.shown_default is not None else flag.default
    return "" if shown is None else f"`{_cell(str(shown).lower() if isinstance(shown, bool) else str(shown))}`"


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def python_page() -> str:
    """Return the page of what `import transformers_framework` offers."""
    import transformers_framework

    names = sorted(transformers_framework.__all__, key=lambda name: (not name.islower() or "_" in name, name))
    blocks = [f"::: transformers_framework.{name}\n" for name in names]
    return "# Python API\n\nHow to use it: [Python](../python.md), [plug-ins](../plugins.md).\n\n" + "\n".join(blocks)


def llms_page(files: Files) -> str:
    """Return an index of the pages for coding assistants, see https://llmstxt.org."""
    lines = ["# Transformers-Framework", ""]
    for file in sorted(files, key=lambda file: file.src_uri):
        if file.is_documentation_page():
            text = re.sub(r"^(```.*?^```|[|<!].*?)$", "", file.content_string, flags=re.MULTILINE | re.DOTALL)
            title, *rest = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
            about = next((part for part in rest if not part.startswith(("#", ":::"))), "")
            sentence = re.split(r"(?<=\.) ", " ".join(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", about).split()))[0]
            lines.append(f"- [{title.lstrip('# ')}]({file.url}): {sentence}")
    return "\n".join(lines) + "\n"
