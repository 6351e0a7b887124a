"""The shape of the code: who may import whom, what importing costs, how files are called and how long they are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = "transformers_framework"
MODULES = sorted((ROOT / PACKAGE).rglob("*.py"))
LONGEST = 400  # lines
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if path.name != "tolerances.py")
ALLOWANCES = {"atol", "rtol", "abs", "rel"}

GROUND = {
    *(
        "compat",
        "constants",
        "device_reads",
        "display",
        "exceptions",
        "families",
        "family_traits",
        "model_sizes",
        "optional_packages",
        "restricted",
    ),
    "special_tokens",
}  # everybody may import these
# room -> the rooms that it may import beside itself and the ground; all of them stand above it in this table
ROOMS: dict[str, set[str]] = {
    "compat": set(),
    "constants": set(),
    "device_reads": set(),
    "display": set(),
    "exceptions": set(),
    "optional_packages": set(),
    "restricted": set(),
    "model_sizes": set(),
    "special_tokens": set(),
    "family_traits": set(),
    "families": set(),
    "workers": set(),
    "import_paths": set(),
    "plugins": {"import_paths"},
    "specs": set(),
    "registry": {"import_paths", "plugins", "specs"},
    "processing": set(),
    "storage": set(),
    "losses": {"import_paths", "processing"},
    "registration": {"import_paths", "specs", "registry", "losses"},
    "optimizers": set(),
    "schedulers": set(),
    "distributed": {"storage"},
    "strategies": {"storage"},
    "loggers": {"registry", "storage"},
    "runtime": {"registry", "storage", "distributed", "strategies", "loggers"},
    "sources": {"processing", "storage"},
    "metrics": {"import_paths", "storage", "distributed", "processing", "sources"},
    "inputs": {"workers", "processing", "sources"},
    "objectives": {"processing", "sources", "losses", "metrics"},
    "models": {"plugins", "registry", "processing", "storage", "losses", "objectives"},
    "pipelines": {"registry", "losses", "metrics", "optimizers", "schedulers", "inputs", "objectives", "models"},
    "data": {"workers", "processing", "storage", "distributed", "runtime", "sources", "inputs", "objectives"},
    "export_description": {"import_paths", "registry", "specs", "storage"},
    "callbacks": {
        "import_paths",
        "loggers",
        "export_description",
        "processing",
        "storage",
        "distributed",
        "strategies",
        "runtime",
        "sources",
        "optimizers",
        "objectives",
        "pipelines",
        "data",
    },
    "run_parts": {"specs", "storage", "runtime", "inputs", "objectives", "pipelines", "data", "callbacks"},
    "run_callbacks": {"run_parts", "registry", "callbacks"},
    "reports": {
        "run_parts",
        "loggers",
        "processing",
        "storage",
        "distributed",
        "strategies",
        "runtime",
        "metrics",
        "objectives",
        "pipelines",
        "data",
        "callbacks",
    },
    "retrieval": {
        "run_parts",
        "registry",
        "processing",
        "storage",
        "distributed",
        "strategies",
        "runtime",
        "sources",
        "metrics",
        "inputs",
        "objectives",
        "data",
    },
    "continuation": {
        "run_parts",
        "objectives",
        "registry",
        "storage",
        "strategies",
        "loggers",
        "runtime",
        "data",
        "callbacks",
    },
    "defaults": {"storage"},
    "preflight": {
        "metrics",
        "run_parts",
        "objectives",
        "registry",
        "storage",
        "distributed",
        "runtime",
        "optimizers",
        "callbacks",
    },
    "batch_size_search": {
        "run_parts",
        "preflight",
        "objectives",
        "pipelines",
        "distributed",
        "runtime",
        "data",
    },
    "experiment": {
        "batch_size_search",
        "defaults",
        "preflight",
        "run_callbacks",
        "run_parts",
        "continuation",
        "registry",
        "storage",
        "distributed",
        "runtime",
        "optimizers",
        "inputs",
        "objectives",
        "models",
        "pipelines",
        "data",
        "callbacks",
    },
    "several": {"distributed", "processing", "storage", "metrics", "objectives", "models"},
    "cli": {
        "import_paths",
        "storage",
        "several",
        "plugins",
        "objectives",
        "registry",
        "distributed",
        "strategies",
        "runtime",
        "data",
        "preflight",
        "experiment",
        "run_parts",
        "reports",
        "models",
    },
    "clusters": {"processing", "storage", "runtime", "models", "cli"},
    "tokenizer": {"registry", "processing", "storage", "runtime", "sources", "models", "cli"},
    "compare": {"storage", "several", "cli"},
    "examples": {"storage", "cli"},
    "__main__": {"cli"},
    "api": {"storage", "runtime", "objectives", "models", "experiment", "cli"},
    "serving": {
        "distributed",
        "run_parts",
        "specs",
        "registry",
        "processing",
        "storage",
        "runtime",
        "sources",
        "inputs",
        "objectives",
        "models",
        "pipelines",
        "data",
        "callbacks",
        "export_description",
        "preflight",
        "experiment",
        "cli",
    },
    "predict": {
        "registry",
        "processing",
        "runtime",
        "sources",
        "callbacks",
        "export_description",
        "preflight",
        "cli",
        "serving",
    },
}

HEAVY = {"torch", "transformers", "datasets", "pytorch_lightning", "torchmetrics", "pyarrow", "tensorboard", "yaml"}
OFFERED = {"api", "exceptions", "families", "losses", "registration", "serving", "specs"}  # to users of the package
LIGHT_ROOMS = (
    "api",
    "__init__",
    "constants",
    "exceptions",
    "families",
    "import_paths",
    "plugins",
    "specs",
    "registry",
    "registration",
    "restricted",
    "cli",
    "processing",
)
OPTIONAL = {"deepspeed", "s3fs", "bitsandbytes", "rouge_score", "sacrebleu", "rich", "flash_attn", "sklearn"}
NO_HOME = {"utils", "util", "helpers", "helper", "common", "base", "misc", "tools"}


class Import(NamedTuple):
    """One import: its line, what it names, and whether it runs when the module is imported."""

    line: int
    name: str
    at_import: bool


def imports(tree: ast.Module) -> Iterator[Import]:
    """Yield every import of a module, those for the type checker too."""

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports are absolute"
            yield from (Import(node.lineno, f"{node.module}.{alias.name}", at_import) for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for part in node.body:
                yield from visit(part, False)
            for part in node.orelse:
                yield from visit(part, at_import)
        else:
            inside = at_import and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inside)

    yield from visit(tree, True)


def room_of(path: Path) -> str:
    """Return the package folder that a module is in, its own name when it is in none."""
    return path.relative_to(ROOT / PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


TREES = {path: ast.parse(path.read_text("utf-8")) for path in MODULES}


def imported_rooms(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name, _ in imports(tree):
        package, _, rest = name.partition(".")
        if package == PACKAGE and not rest.startswith("__version__"):
            yield line, rest.partition(".")[0]


def test_imports_are_read_as_python_runs_them() -> None:
    source = (
        "import torch.nn\nif TYPE_CHECKING:\n    import yaml\nelse:\n    import json\n"
        "class A:\n    from a import b\n    def f(self):\n        import numpy\n"
        "try:\n    import rich\nexcept E:\n    pass"
    )
    found = {(name, at_import) for _, name, at_import in imports(ast.parse(source))}
    at_import = {("torch.nn", True), ("json", True), ("a.b", True), ("rich", True)}
    assert found == at_import | {("yaml", False), ("numpy", False)}


def test_the_table_has_every_room_and_goes_one_way() -> None:
    assert set(ROOMS) == {room_of(path) for path in MODULES} - {"__init__"}
    order = list(ROOMS)
    assert [room for room in order for other in ROOMS[room] if order.index(other) >= order.index(room)] == []
    # as the documents draw it
    chain = (
        "processing",
        "sources",
        "inputs",
        "objectives",
        "models",
        "pipelines",
        "data",
        "callbacks",
        "retrieval",
        "experiment",
        "cli",
    )
    assert [room for room in order if room in chain] == list(chain)
    assert not ROOMS["objectives"] & {"inputs"}, "what goes in and what is learned do not know each other"


def test_the_picture_shows_the_folders_there_are() -> None:
    picture = (ROOT / f"{PACKAGE}.svg").read_text("utf-8")
    named = re.findall(r'class="room"[^>]*>([^<]*)<', picture)
    folders = {name for text in named for name in re.findall(r"(\w+)/", text)}
    assert folders <= set(ROOMS)
    shown = next(text for text in named if "&lt;" in text).split(" &lt; ")
    assert shown == [room for room in ROOMS if room in shown]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    """Types and imports inside functions count: they are dependencies too."""
    room = room_of(path)
    allowed = GROUND | {room} | ROOMS.get(room, set())
    if room == "__init__":
        allowed = OFFERED
    wrong = [(line, other) for line, other in imported_rooms(TREES[path]) if other not in allowed]
    assert wrong == [], f"{name_of(path)}: {room} imports what stands beside or above it"


@pytest.mark.parametrize("path", [path for path in MODULES if path.name == "__init__.py"], ids=name_of)
def test_folders_import_nothing(path: Path) -> None:
    """The package offers names to others: it shows them to type checkers, and imports one when it is first used."""
    assert [name for _, name, at_import in imports(TREES[path]) if at_import] == []
    kinds, offers = {type(node) for node in TREES[path].body}, room_of(path) == "__init__"
    assert kinds <= {ast.Expr, ast.Assign, *((ast.If, ast.FunctionDef) if offers else ())}, "a docstring, the version"


def test_the_package_offers_what_it_shows_to_type_checkers() -> None:
    import transformers_framework

    shown = {name.rpartition(".")[2] for _, name, _ in imports(TREES[ROOT / PACKAGE / "__init__.py"])} - {"importlib"}
    assert shown == set(transformers_framework.__all__) == set(transformers_framework._MODULES)
    assert all(callable(getattr(transformers_framework, name)) for name in shown)
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        transformers_framework.runn  # noqa: B018


def test_heavy_imports_wait_until_they_are_needed() -> None:
    wrong = [
        f"{name_of(path)}:{line}: {name}"
        for path, tree in TREES.items()
        for line, name, at_import in imports(tree)
        if at_import and room_of(path) in LIGHT_ROOMS and name.partition(".")[0] in HEAVY
    ]
    assert wrong == []


def defined_names() -> set[str]:
    """Return the names of functions, classes and attributes that the package defines."""
    found: set[str] = set()
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(tree: ast.Module, own: set[str]) -> Iterator[tuple[int, str]]:
    """Yield the private parts of libraries that a module uses: imported, or attributes that nobody here defines."""
    for line, name, _ in imports(tree):
        if name.partition(".")[0] != PACKAGE and any(is_private(part) for part in name.split(".")):
            yield line, name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own:
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "hasattr"):
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(name.value) and name.value not in own:
                yield node.lineno, name.value


def test_private_parts_of_libraries_are_used_in_one_place() -> None:
    """An upgrade of a library fails in tests/unit/compat, and not in hour 40 of a run."""
    public = {"_asdict", "_replace", "_fields", "_exit"}  # of named tuples and os, with documentation
    hidden = {"_call", "_shared", "_source"}  # of our own modules, which torch shall not see
    own = defined_names() | public | hidden
    wrong = [
        f"{name_of(path)}:{line}: {name}"
        for path, tree in TREES.items()
        if room_of(path) != "compat"
        for line, name in private_uses(tree, own)
    ]
    assert wrong == [], "put it into the file of its library in compat/, and name it in PARTS"


def test_private_parts_are_found() -> None:
    source = "from a import _b\nc._d\nself._own\ngetattr(e, '_f', None)\nimport g._h\n"
    assert [name for _, name in private_uses(ast.parse(source), {"_own"})] == ["a._b", "g._h", "_d", "_f"]


def test_optional_packages_are_imported_inside_functions_only() -> None:
    wrong = [
        f"{name_of(path)}:{line}: {name}"
        for path, tree in TREES.items()
        for line, name, at_import in imports(tree)
        if at_import and name.partition(".")[0] in OPTIONAL
    ]
    assert wrong == []


def loaded_by(code: str) -> set[str]:
    """Return the modules that a line of Python loads in a process of its own, beside those of Python itself."""
    program = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_the_package_imports_nothing_else() -> None:
    assert loaded_by(f"import {PACKAGE}") == {PACKAGE}


def test_the_command_line_is_read_without_anything_heavy() -> None:
    loaded = loaded_by(f"from {PACKAGE}.cli import main, parser; from {PACKAGE} import registry")
    assert not {name.partition(".")[0] for name in loaded} & (HEAVY | {"numpy"})


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_say_what_they_are_for(path: Path) -> None:
    first = (ast.get_docstring(TREES[path]) or "").partition("\n")[0]
    assert first
    assert first.endswith((".", ":")), first


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_fit_in_a_head(path: Path) -> None:
    lines = len(path.read_text("utf-8").splitlines())
    assert lines < LONGEST, f"{lines} lines: this asks to be two files"


def test_nothing_lives_in_a_drawer() -> None:
    parts = {part.removesuffix(".py") for path in MODULES for part in path.relative_to(ROOT).parts}
    assert not parts & NO_HOME


def asked_of_inputs(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the members that a module asks an inputs object for: named ``….inputs`` or annotated ``Inputs``."""

    def visit(node: ast.AST, known: bool) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.FunctionDef):
            hints = {a.arg: ast.unparse(a.annotation) for a in (*node.args.args, *node.args.kwonlyargs) if a.annotation}
            known = hints.get("inputs") == "Inputs" if "inputs" in hints else known
        if isinstance(node, ast.Attribute):
            owner = node.value
            if (isinstance(owner, ast.Attribute) and owner.attr == "inputs") or (
                known and isinstance(owner, ast.Name) and owner.id == "inputs"
            ):
                yield node.lineno, node.attr
        for child in ast.iter_child_nodes(node):
            yield from visit(child, known)

    yield from visit(tree, False)


def test_inputs_are_asked_for_what_they_declare_and_nothing_else() -> None:
    """A class of one's own that implements the interface is enough for every part of the program."""
    tree = TREES[ROOT / PACKAGE / "inputs" / "inputs.py"]
    (declared,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Inputs")
    members = {node.name for node in declared.body if isinstance(node, ast.FunctionDef)}
    members |= {ast.unparse(node.target) for node in declared.body if isinstance(node, ast.AnnAssign)}
    members |= {"tokenizer", "max_length", "needs"}  # of the constructor
    # what searches a corpus is for one class of inputs alone, and says so
    special = {path for path in TREES if "inputs: QueryPassage" in path.read_text("utf-8")}
    asked = [
        (f"{name_of(path)}:{line}", member)
        for path, tree in TREES.items()
        if room_of(path) not in ("inputs", "registry") and path not in special
        for line, member in asked_of_inputs(tree)
    ]
    assert len(asked) > 50, "the accesses are found"
    assert [(place, member) for place, member in asked if member not in members] == []
    by_local_names = {"__init__", "default_lengths", "needs", "num_joined", "pre_process", "rewrite"}
    assert members - {member for _, member in asked} <= by_local_names, "nothing is declared that is not asked for"


# modules that serve all pipelines: words of a single pipeline belong to its row of the table, or to an interface
CENTRE = (
    *("experiment.py", "preflight.py", "continuation.py", "run_parts.py", "specs.py"),
    *("cli/parser.py", "cli/check.py", "cli/preview.py"),
    *(path.relative_to(ROOT / PACKAGE).as_posix() for path in MODULES if path.parent.name == "data"),
)
WORDS_OF_ONE_PIPELINE = {"k", "candidate", "candidates", "corpus", "passage", "passages"}


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the words of a module's names, texts, imports and documentation, each with its line."""
    for node in ast.walk(tree):
        names = [
            value
            for _, field in ast.iter_fields(node)
            for value in (field if isinstance(field, list) else [field])
            if isinstance(value, str)
        ]
        for word in re.findall(r"[a-z]+", re.sub(r"([a-z])(?=[A-Z])", r"\1_", " ".join(names)).lower()):
            yield getattr(node, "lineno", 0), word


def test_words_are_found_wherever_they_stand() -> None:
    source = "import a.corpus\ndef f(k, *, num_candidates=0):\n    return g(CorpusSearch, f'-k {passage}')"
    found = {word for _, word in words(ast.parse(source))}
    assert found >= {"corpus", "k", "candidates", "search", "passage"}


@pytest.mark.parametrize("name", CENTRE)
def test_the_centre_knows_no_single_pipeline(name: str) -> None:
    found = [(line, word) for line, word in words(TREES[ROOT / PACKAGE / name]) if word in WORDS_OF_ONE_PIPELINE]
    assert found == []


# what is called so has a written interface
INTERFACES = {"inputs", "model", "experiment", "run", "pipeline", "module", "data", "objective", "objectives"}

# attributes of objects of transformers, Lightning, torch and fsspec that ours have as well
OF_OTHERS = {
    ("models/embedding_sharing.py", "own.weight"),
    ("models/multi_head.py", "head.config"),
    ("models/multi_head.py", "shared.config"),
    ("models/output_layer.py", "config.num_labels"),
    ("models/segments.py", "table.num_embeddings"),
    ("models/segments.py", "table.weight"),
    ("pipelines/seq_to_seq.py", "self.vocabulary.model.generation_config"),
    ("runtime/loops.py", "self.val_loop.restarting"),
    ("runtime/loops.py", "trainer.fit_loop.epoch_loop"),
    ("runtime/trainer.py", "trainer.accumulate_grad_batches"),
    ("storage/addresses.py", "filesystem.retries"),
    ("storage/remote.py", "filesystem.retries"),
}


def assigned(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what a statement assigns to, each of several."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        yield from target.elts if isinstance(target, ast.Tuple | ast.List) else [target]


def own_attributes() -> set[str]:
    """Return the names of everything that instances of the package's classes have."""
    found = set()
    for node in (node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
        for part in node.body:
            found |= {target.id for target in assigned(part) if isinstance(target, ast.Name)}
            found |= {part.name} if isinstance(part, ast.FunctionDef) else set()
        targets = (target for part in ast.walk(node) for target in assigned(part))
        found |= {t.attr for t in targets if isinstance(t, ast.Attribute) and ast.unparse(t.value) == "self"}
    return found


def test_nothing_is_set_on_an_object_from_outside() -> None:
    """What an object needs is handed to its constructor; what changes later, it changes itself."""
    own = own_attributes()
    found = [
        (path.relative_to(ROOT / PACKAGE).as_posix(), node.lineno, target)
        for path, tree in TREES.items()
        if room_of(path) != "compat"
        for node in ast.walk(tree)
        for target in assigned(node)
        if isinstance(target, ast.Attribute)
        and ast.unparse(target.value) not in ("self", "cls")
        and not target.attr.startswith("__")  # of functions
    ]
    ours = [(name, line, ast.unparse(target)) for name, line, target in found if target.attr in own]
    assert [part for part in ours if (part[0], part[2]) not in OF_OTHERS] == []
    assert {(name, target) for name, _, target in ours} >= OF_OTHERS, "nothing is listed that is not there"
    # a new attribute on an object of a known class: mypy would say so
    silenced = [
        f"{name}:{line}: {ast.unparse(target)}"
        for name, line, target in found
        if "type: ignore" in (ROOT / PACKAGE / name).read_text("utf-8").splitlines()[line - 1]
    ]
    assert silenced == []


def test_nothing_that_has_an_interface_is_of_any_type() -> None:
    wrong = []
    for path, tree in TREES.items():
        nodes = list(ast.walk(tree))
        keywords = {node.args.kwarg for node in nodes if isinstance(node, ast.FunctionDef)}  # **inputs are many things
        named = [(node, node.arg) for node in nodes if isinstance(node, ast.arg) and node not in keywords]
        named += [
            (node, ast.unparse(node.target).removeprefix("self.")) for node in nodes if isinstance(node, ast.AnnAssign)
        ]
        for node, name in named:
            if name in INTERFACES and node.annotation is not None and ast.unparse(node.annotation) == "Any":
                wrong.append(f"{name_of(path)}:{node.lineno}: {name}")
        aliases = [node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.value) == "Any"]
        wrong += [f"{name_of(path)}:{node.lineno}: {ast.unparse(node)}" for node in aliases]
    assert wrong == []


def tracked() -> list[Path]:
    """Return the files that belong to the repository; empty where there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_files_name_no_place_of_one_machine() -> None:
    """A path of somebody's machine in a file works nowhere else."""
    files = tracked()
    if not files:
        pytest.skip("this is no git repository")
    places = [f"/{top}/" for top in ("work", "home", "Users", "root")]
    wrong = [
        f"{path.relative_to(ROOT).as_posix()}:{number}: {place}"
        for path in files
        if path.suffix not in (".png", ".lock")
        for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1)
        for place in places
        if place in line
    ]
    assert wrong == []


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of a file, each with its place."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def is_rounding(value: ast.expr) -> bool:
    """Tell whether a number is neither the chance of what is sampled nor the rounding of float64."""
    numbers = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    return any(isinstance(number, float) and 1e-9 < number < 1e-3 for number in numbers)


def test_rounding_is_allowed_for_in_one_place() -> None:
    own = [
        f"{place}: {keyword.arg}={ast.unparse(keyword.value)}"
        for path in TESTS
        for place, call in calls(path)
        for keyword in call.keywords
        if keyword.arg in ALLOWANCES and is_rounding(keyword.value)
    ]
    assert own == [], "use tests/tolerances.py: approx, assert_close, assert_gradients_close"


def test_no_package_is_skipped_silently() -> None:
    skips = [place for path in TESTS for place, call in calls(path) if ast.unparse(call.func) == "pytest.importorskip"]
    assert skips == [], "import what `make env` installs, and mark the others: @pytest.mark.needs(package)"
