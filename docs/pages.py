"""Hook of MkDocs: pages made from other files of the repository, from the registry and from signatures."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from transformers_framework.cli.flags import Flag
from transformers_framework.cli.parser import Groups, groups_of
from transformers_framework.cli.tool import groups_of_tool
from transformers_framework.cli.values import describe
from transformers_framework.models.auto import missing_heads
from transformers_framework.registry import LOGGERS, MODELS, OPTIMIZERS, PIPELINES, SCHEDULERS, resolve

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

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
OF_THE_TABLES = {"optimizer": OPTIMIZERS, "scheduler": SCHEDULERS, "loggers": LOGGERS}
SHARED = ("model", "data", "optimization", "selection", "run", "trainer")  # groups of flags that every pipeline has
# commands beside runs: the module with its usage, and the function that declares its flags
TOOLS = {
    "predict": "predict",
    "compare": "compared",
    "tokenizer": "train_tokenizer",
    "clusters": "make_clusters",
    "examples": "copy_examples",
}
# classes that extensions inherit from
INTERFACES = (
    "objectives.objective.Objective",
    "objectives.objective.Evaluation",
    "inputs.inputs.Inputs",
    "metrics.stage_metric.StageMetric",
    "run_parts.EndsRun",
    "loggers.interface.Continues",
    "loggers.interface.TakesMedia",
)
ABOUT = (
    "A trainer for encoder and encoder-decoder transformers, on transformers, PyTorch Lightning and datasets, with one "
    "command: pre-training, fine-tuning, evaluation, prediction, export."
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    for source, page in COPIED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "reference/flags.md", content=flags_page()))
    files.append(File.generated(config, "reference/python.md", content=python_page()))
    documents = [file for file in files if file.is_documentation_page()]
    pages = ((file.url, file.content_string) for file in sorted(documents, key=lambda file: file.src_uri))
    files.append(File.generated(config, "llms.txt", content=llms_page(pages)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Complete the pages of pipelines; let links lead to pages. Links to other files of the repository become code."""
    name = page.file.src_uri.removeprefix("pipelines/").removesuffix(".md")
    if name in PIPELINES:
        markdown += "\n" + "\n".join(pipeline_sections(name))
    source = next((name for name, made in COPIED.items() if made == page.file.src_uri), f"docs/{page.file.src_uri}")
    folder = Path(source).parent

    def link(found: re.Match[str]) -> str:
        mark, text, target = found.groups()
        path, _, title = target.partition("#")
        if "://" in target or not path or source.startswith("docs/reference/"):
            return found[0]
        wanted = os.path.normpath(folder / path)
        to = COPIED.get(wanted) or (wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
        if to is None:
            return text if text.startswith("`") else f"`{text}`"
        relative = os.path.relpath(to, Path(page.file.src_uri).parent)
        return f"{mark}[{text}]({relative}{'#' * bool(title)}{title})"

    return re.sub(r"(!?)\[([^\]]+)\]\(([^)\s]+)\)", link, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mark flags, so that the style sheet keeps each on one line; show references of docstrings by their last name."""
    html = re.sub(r":\w+:<code>~?(?:[\w.]+\.)?(\w+)</code>", r"<code>\1</code>", html)
    return re.sub(r"(?<=<code>)--?\w+", r'<span class="flag">\g<0></span>', html)


# --- pages of pipelines ----------------------------------------------------------------------------------------------


def pipeline_sections(name: str) -> Iterator[str]:
    """Yield the lines with which the page of a pipeline ends: metrics, model families, flags, the example's config."""
    yield "## Metrics"
    yield ""
    yield "Names in logs and for `--monitor`, after the stage and the objective; [definitions](../metrics.md):"
    yield ""
    for objective, (always, evaluated) in metrics_of(name).items():
        yield f"- `{{stage}}/{objective}/`: {always}{f'; in validation and test also {evaluated}' if evaluated else ''}"
    yield ""
    yield "## Model families"
    yield ""
    heads = " and ".join(dict.fromkeys(f"`{resolve(path).head}`" for path in PIPELINES[name].objectives))
    yield f"`--model` is `auto`, or one of the families for which transformers has {heads}:"
    yield ", ".join(f"`{family}`" for family in families_of(name)) + "."
    yield ""
    yield "## Flags"
    yield from flag_table(own_flags(name).values())
    yield "All pipelines have the [other flags](../reference/flags.md)."
    yield ""
    yield "## Config file"
    yield ""
    yield f"The example as `examples/{name}.yaml`. The same keys work in your own files for `--config`."
    yield ""
    yield f"```yaml\n{(ROOT / 'examples' / f'{name}.yaml').read_text('utf-8').rstrip()}\n```"


def metrics_of(name: str) -> dict[str, tuple[str, str]]:
    """Return the metrics of each objective of a pipeline: those of all stages, and those outside training only."""
    rows = re.findall(r"^\| (`.+?) \| (`loss`.*?) \| ?(.*?) ?\|$", (ROOT / "docs/metrics.md").read_text("utf-8"), re.M)
    found = {objective: row[1:] for row in rows for objective in re.findall(r"\w+", row[0])}
    return {each: found[each] for each in dict.fromkeys(resolve(path).name for path in PIPELINES[name].objectives)}


def families_of(name: str) -> list[str]:
    """Return the model families that have the heads of a pipeline."""
    spec, families = PIPELINES[name], {ours: row.model_type for ours, row in MODELS.items() if ours != "auto"}
    return [ours for ours, model_type in families.items() if not missing_heads(spec, model_type)]


def own_flags(name: str) -> dict[str, Flag]:
    """Return the flags of a pipeline, also those of its variants, such as -k."""
    chosen = {"pipeline": name, "model": "auto"}
    groups = [groups_of(chosen), *(groups_of({**chosen, flag: "5"}) for flag in PIPELINES[name].variants)]
    return {flag: found for each in groups for flag, found in each[f"pipeline {name}"].items()}


# --- pages of flags and of Python ------------------------------------------------------------------------------------


def flags_page() -> str:
    """Return the page of the flags that all pipelines have."""
    lines = ["# All flags", "", "Flags that every pipeline has; those of one pipeline are on its page."]
    for title, flags in shared_flags().items():
        lines += ["", f"## {title}", *flag_table(flags)]
    return "\n".join(lines) + "\n"


def shared_flags() -> dict[str, list[Flag]]:
    """Return the flags that every pipeline has by group, and those of each optimizer, scheduler and logger."""
    chosen: dict[str, str] = {"pipeline": "seq_class", "model": "auto"}
    groups: Groups = groups_of(chosen)
    known = {name for flags in groups.values() for name in flags}
    found = {title.capitalize(): list(groups[title].values()) for title in SHARED}
    for flag, rows in OF_THE_TABLES.items():
        for row in rows:
            of_row = groups_of({**chosen, flag: row})
            new = [each for flags in of_row.values() for each in flags.values() if each.name not in known]
            if new:
                found[f"--{flag} {row}"] = new
    return found


def flag_table(flags: Iterable[Flag]) -> Iterator[str]:
    """Yield the lines of a table of flags: name, values, default and meaning."""
    yield '\n<div class="flags" markdown>\n'
    yield "| flag | value | default | meaning |"
    yield "|---|---|---|---|"
    for flag in flags:
        default = default_of(flag)
        cells = (
            f"`{flag.dashed}`",
            _cell(values_of(flag)),
            default if default in ("", "required") else f"`{_cell(default)}`",
            _cell(flag.help),
        )
        yield f"| {' | '.join(cells)} |"
    yield "\n</div>\n"


def values_of(flag: Flag) -> str:
    """Return the values that a flag takes, in words."""
    return describe(flag.hint).removesuffix(" or none")


def default_of(flag: Flag) -> str:
    """Return the default value of a flag as it is typed; empty if it has none."""
    if flag.is_required:
        return "required"
    shown = flag.shown_default if flag.shown_default is not None else flag.default
    if shown is None:
        return ""
    if isinstance(shown, list | tuple):
        return " ".join(map(str, shown))
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def _cell(text: str) -> str:
    text = " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
    return re.sub(r"(?<![\w`-])--\w+", r"`\g<0>`", text)


def python_page() -> str:
    """Return the page of what `import transformers_framework` offers, and of the base classes of extensions."""
    import transformers_framework

    names = sorted(transformers_framework.__all__, key=lambda name: (not name.islower() or "_" in name, name))
    lines = ["# Python API", "", "How to use it: [Python](../python.md), [plug-ins](../plugins.md).", ""]
    lines += [f"::: transformers_framework.{name}\n" for name in names]
    lines += [
        "## For extensions",
        "",
        "Classes to inherit from, with an example in [architecture](../architecture.md).",
        "",
    ]
    for path in INTERFACES:
        lines += [f"::: transformers_framework.{path}", "    options:", "      heading_level: 3", ""]
    return "\n".join(lines)


# --- for coding assistants -------------------------------------------------------------------------------------------


def llms_page(pages: Iterable[tuple[str, str]]) -> str:
    """Return the page for coding assistants: pipelines, commands, all flags, an index of the pages.

    Its form is that of https://llmstxt.org.

    Args:
        pages: Address and Markdown of each page.
    """
    lines = ["# Transformers-Framework", "", f"> {ABOUT}", "", "Rules:", ""]
    lines += [
        "- `python -m transformers_framework --pipeline NAME --model FAMILY --name RUN [flags | --config FILE.yaml]`",
        "- Add `--check` first: it trains nothing and reports all problems of flags and data at once.",
        "- Flags are snake_case; lists take several values; a boolean flag works bare. Keys of YAML files are flags.",
        "- Exit status: 0 done, 1 the run failed, 2 invalid flags or data, 130 Ctrl-C, 143 SIGTERM (then `--resume`).",
        "- Python: `from transformers_framework import run, load`; `run(**flags)`, `load(folder).predict(rows)`.",
    ]
    lines += ["", "## Pipelines", ""]
    for name, spec in PIPELINES.items():
        lines.append(f"### {name}\n\nLearns {spec.learns}. Needs {spec.needs}.\n\n```bash\n{command_of(name)}\n```\n")
        lines += [
            f"Metrics of {objective}: {always} {more}".rstrip()
            for objective, (always, more) in metrics_of(name).items()
        ]
        lines += [f"Models: {', '.join(families_of(name))}", *map(flag_line, own_flags(name).values()), ""]
    lines += ["`+` combines pipelines with the same inputs on one backbone: `--pipeline masked_lm+seq_class`.", ""]
    for title, flags in shared_flags().items():
        lines += [f"## Flags of every pipeline: {title}", "", *map(flag_line, flags), ""]
    for tool, function in TOOLS.items():
        flags = groups_of_tool("flags", resolve(f"{tool}:{function}"))["flags"]
        lines += [f"## {resolve(f'{tool}:USAGE')}", "", *map(flag_line, flags.values()), ""]
    lines += ["## Pages", ""]
    for url, markdown in pages:
        title, sentence = title_and_sentence(markdown)
        lines.append(f"- [{title}]({url}): {sentence}")
    return "\n".join(lines) + "\n"


def command_of(name: str) -> str:
    """Return the command on the page of a pipeline."""
    page = (ROOT / "docs" / "pipelines" / f"{name}.md").read_text("utf-8")
    found = re.search(rf"<!-- test: {name} command -->\n```bash\n(.*?)\n```", page, re.DOTALL)
    assert found, f"docs/pipelines/{name}.md has a command"
    return " ".join(found[1].replace("\\\n", " ").split())


def flag_line(flag: Flag) -> str:
    """Return a flag in one line: name, values, default and meaning."""
    default = default_of(flag)
    shown = f" [{default}]" if default else ""
    return f"- {flag.dashed} ({values_of(flag)}){shown}: {' '.join(flag.help.split())}"


def title_and_sentence(markdown: str) -> tuple[str, str]:
    """Return the title of a page and the first sentence of its first paragraph."""
    text = re.sub(r"^(```.*?^```|[|<!].*?)$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    title, *rest = [part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    about = next((part for part in rest if not part.startswith(("#", ":::", "`--pipeline"))), "")
    plain = " ".join(re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", about).split())
    return title.lstrip("# "), re.split(r"(?<=[.:]) ", plain)[0]
