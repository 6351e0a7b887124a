"""Encoding of a corpus: our search beside ``SentenceTransformer.encode``, one checkpoint, equal batches and embeddings.

A BERT of random weights with mean pooling, saved by our export, so that both load the same folder. What is timed is all
that lies between texts and embeddings: sorting by length, tokenizing, the model, pooling.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from benchmarks.material import BATCH_SIZE, MAX_LENGTH, Texts
from benchmarks.rounds import alternate, median, median_ratio, table

PEER, OURS = "`SentenceTransformer.encode`", "transformers_framework"
PASSAGES = 1024


def run(texts: Texts, rounds: int, threads: int, clock: Callable[[], float]) -> str:
    """Return a table of passages per second.

    Args:
        texts: Running texts are the corpus, the first of them.
        rounds: Runs of every contender.
        threads: Threads of both.
        clock: Tells the time.
    """
    import torch

    torch.set_num_threads(threads)
    corpus = texts.scratch / "corpus.jsonl"
    lines = list(dict.fromkeys(texts.running.read_text("utf-8").splitlines()))[:PASSAGES]
    corpus.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    folder = _checkpoint(texts)
    encoders = {PEER: _theirs(folder, lines), OURS: _ours(folder, corpus, texts.scratch)}
    first, second = (encode() for encode in encoders.values())
    apart = (first - second).abs().max().item()

    def rate(encode: Callable[[], torch.Tensor]) -> Callable[[], float]:
        def timed() -> float:
            start = clock()
            encode()
            return len(lines) / (clock() - start)

        return timed

    values = alternate({name: rate(encode) for name, encode in encoders.items()}, rounds)
    far = {OURS: f"{apart:.0e}", PEER: ""}
    rows = [
        (name, f"{median(rates):,.1f}", f"{median_ratio(values, name, PEER):.2f}", far[name])
        for name, rates in values.items()
    ]
    title = f"encoding of {len(lines)} passages, batches of {BATCH_SIZE}, at most {MAX_LENGTH} tokens"
    return table((title, "passages/s", "to the peer", "largest difference"), rows)


def _checkpoint(texts: Texts) -> Path:
    """Save a model with random weights for both, unless it is there; return its folder."""
    folder = texts.scratch / f"bi_encoder_of_{texts.model.name}"
    if not (folder / "modules.json").exists():
        import torch
        from transformers import AutoConfig, AutoTokenizer

        from transformers_framework.models.auto import HeadSpec
        from transformers_framework.models.towers import load_bi_encoder

        torch.manual_seed(17)
        config = AutoConfig.from_pretrained(texts.model)
        model = load_bi_encoder({"retrieval": HeadSpec("AutoModel")}, config, max_sequence_length=[MAX_LENGTH])
        model.export(folder, AutoTokenizer.from_pretrained(texts.model))
    return folder


def _theirs(folder: Path, lines: list[str]) -> Callable[[], object]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as absent:
        raise SystemExit("pip install sentence-transformers, which this compares with") from absent
    model = SentenceTransformer(str(folder), device="cpu")
    texts = [json.loads(line)["text"] for line in lines]
    return lambda: model.encode(texts, batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False)


def _ours(folder: Path, corpus: Path, scratch: Path) -> Callable[[], object]:
    import torch
    from transformers import AutoConfig, AutoTokenizer

    from transformers_framework.inputs.query_passage import QueryPassage
    from transformers_framework.models.auto import HeadSpec
    from transformers_framework.models.towers import load_bi_encoder
    from transformers_framework.retrieval.corpus import load_corpus
    from transformers_framework.retrieval.corpus_search import encoded

    lengths = {"max_sequence_length": [MAX_LENGTH]}
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    model = load_bi_encoder({"retrieval": HeadSpec("AutoModel")}, config, pre_trained_model=str(folder), **lengths)
    tower = model.eval().tower("passage")
    flags = {**lengths, "corpus_dataset": str(corpus), "cache_dir": str(scratch / "cache")}
    inputs = QueryPassage(tokenizer, config.type_vocab_size, input_columns=["query", "text"], **flags)
    passages = load_corpus(inputs)
    assert passages is not None

    @torch.inference_mode()
    def encode() -> torch.Tensor:
        found = encoded(passages.batches(BATCH_SIZE), tower, torch.device("cpu"))
        embeddings, numbers = map(torch.cat, zip(*found, strict=True))
        by_row = torch.from_numpy(passages.first)[numbers]
        return embeddings[by_row.argsort()]

    return encode
