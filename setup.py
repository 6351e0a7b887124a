"""Package metadata; the configuration of the tools is in ``pyproject.toml``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
README = ROOT / "README.md"
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "transformers_framework" / "__init__.py").read_text("utf-8"))

EXTRAS = {
    "deepspeed": ["deepspeed>=0.16,<0.20"],
    "s3": ["s3fs>=2024.2"],
    "clusters": ["scikit-learn>=1.4"],
    "bitsandbytes": ["bitsandbytes>=0.45"],
    "metrics": ["rouge-score", "sacrebleu"],
    "mlflow": ["alembic", "mlflow-skinny>=3", "sqlalchemy", "sqlparse"],
    "onnx": ["onnx", "onnxruntime", "onnxscript"],
    "plots": ["matplotlib>=3.8"],
    "wandb": ["wandb>=0.19"],
    "notebooks": ["ipykernel>=6.29", "matplotlib>=3.8", "nbclient>=0.10"],
    "docs": ["mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
    "release": ["build>=1.2", "twine>=6.1"],
    "dev": [
        "accelerate",  # the peer of the benchmarks, transformers' Trainer, needs it
        "matplotlib>=3.8",
        "moto[server]",
        "mypy",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "pytrec_eval-terrier",
        "rouge-score",
        "ruff",
        "sacrebleu",
        "scikit-learn>=1.4",
        "seqeval",  # the reference of entity F1
        "s3fs>=2024.2",
        "types-PyYAML",
    ],
}
# what `make test-full` tests: everything above, and what our results are compared with
EXTRAS["full"] = sorted(
    {"sentence-transformers>=6.2", *(package for packages in EXTRAS.values() for package in packages)}
)


class BuildWithExamples(build_py):
    """Builds the package with a copy of the examples, for ``python -m transformers_framework.examples``."""

    def run(self) -> None:
        """Copy modules and data, then the examples."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "transformers_framework" / "example_files"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(ROOT / "examples", target, ignore=shutil.ignore_patterns("__pycache__"))


setup(
    name="transformers-framework",
    cmdclass={"build_py": BuildWithExamples},
    version=VERSION[1] if VERSION else "0",
    description="Pre-training and fine-tuning of encoder and encoder-decoder transformers from one command line",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="The Transformers-Framework maintainers",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["transformers_framework", "transformers_framework.*"]),
    package_data={"transformers_framework": ["**/*.md", "py.typed"]},
    python_requires=">=3.10,<3.14",
    # upper bounds: the next version of each library whose private parts are used, see transformers_framework/compat
    install_requires=[
        "datasets>=4.0,<5.3",
        "filelock",
        "fsspec",
        "huggingface_hub",
        "jsonargparse[shtab]>=4.53,<5",
        "numpy",
        "protobuf",  # with sentencepiece: tokenizers of the hub that come without a tokenizer.json, as DeBERTa-v3's
        "pyarrow",
        "pytorch-lightning>=2.5,!=2.6.2,!=2.6.3,<2.7",
        "pyyaml",
        "rich",
        "safetensors",
        "sentencepiece",
        "tensorboard<2.22",
        "tokenizers",
        "torch>=2.6,<2.14",
        "torchmetrics>=1.5,<1.10",
        "tqdm",
        "transformers>=5.0,<5.24",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["transformers_framework = transformers_framework.cli.main:main"]},
    keywords=["deep learning", "transformers", "pre-training", "answer selection", "pytorch lightning"],
    classifiers=[
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
)
