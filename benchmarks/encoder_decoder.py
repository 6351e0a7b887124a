"""Small encoder-decoders for the benchmarks: their tokenizers, configurations and weights, and commands with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

WIDTH, LAYERS, HEADS, FEED_FORWARD = 256, 4, 4, 1024
T5_VOCABULARY, BART_VOCABULARY = 32128, 50265  # of the models; a tokenizer of little text knows fewer tokens
SENTINELS = 100


def save_t5(folder: Path, texts: Sequence[str]) -> Path:
    """Write a T5 of 4 + 4 layers without weights, and sentence pieces trained on some texts, unless they are there."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, T5Config

    if (folder / "config.json").exists():
        return folder
    sentinels = [f"<extra_id_{number}>" for number in range(SENTINELS)]
    pieces = Tokenizer(models.Unigram())
    pieces.normalizer, pieces.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=T5_VOCABULARY - 128,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    pieces.train_from_iterator(texts, trainer)
    pieces.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=sentinels,
        model_max_length=512,
    ).save_pretrained(folder)
    T5Config(
        vocab_size=T5_VOCABULARY,
        d_model=WIDTH,
        d_kv=WIDTH // HEADS,
        d_ff=FEED_FORWARD,
        num_layers=LAYERS,
        num_heads=HEADS,
        decoder_start_token_id=0,
    ).save_pretrained(folder)
    return folder


def save_bart(folder: Path, texts: Sequence[str], *, vocabulary: int | None = BART_VOCABULARY) -> Path:
    """Write a BART of 4 + 4 layers without weights, and byte pairs trained on some texts, unless they are there.

    Args:
        folder: Folder to write to.
        texts: What the tokenizer is trained on.
        vocabulary: Embeddings of the model; none: as many as the tokenizer has tokens.
    """
    from tokenizers import ByteLevelBPETokenizer, processors
    from transformers import BartConfig, PreTrainedTokenizerFast

    if (folder / "config.json").exists():
        return folder
    pairs = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pairs.train_from_iterator(texts, BART_VOCABULARY, min_frequency=2, special_tokens=specials, show_progress=False)
    pairs._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pairs._tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_max_length=1024,
    )
    tokenizer.save_pretrained(folder)
    BartConfig(
        vocab_size=vocabulary or len(tokenizer),
        d_model=WIDTH,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=FEED_FORWARD,
        decoder_ffn_dim=FEED_FORWARD,
        forced_eos_token_id=None,
    ).save_pretrained(folder)
    return folder


def read(file: Path, column: str) -> list[str]:
    """Return a column of JSON lines."""
    return [row[column] for row in _rows(file)]


def _rows(file: Path) -> Iterator[dict]:
    with file.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def denoising_command(
    family: str, texts: Path, model: Path, scratch: Path, *, batch_size: int, max_length: int, packing: str = "full"
) -> list[str]:
    """Return the words of a run that pre-trains on texts, as a user types them.

    Args:
        family: ``t5`` or ``bart``; the latter permutes sentences.
        texts: JSON lines with ``text``.
        model: Folder with a tokenizer and a ``config.json``.
        scratch: Folder for all files of the run.
        batch_size: Rows of a batch.
        max_length: Longest input in tokens.
        packing: As the flag.
    """
    return [
        *("--pipeline", "denoising", "--model", family, "--name", f"denoising_{family}", "--overwrite"),
        *("--output_dir", str(scratch / "outputs"), "--cache_dir", str(scratch / "cache")),
        *("--pre_trained_config", str(model), "--train_dataset", str(texts), "--input_columns", "text"),
        *("--batch_size", str(batch_size), "--max_sequence_length", str(max_length), "--packing", packing),
        *("--learning_rate", "5e-5", "--gradient_clip_val", "1.0", "--accelerator", "cpu", "--num_workers", "0"),
        *("--no_epoch_checkpointing", *(["--shuffle_sentences"] if family == "bart" else [])),
    ]
