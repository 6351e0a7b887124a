"""The peer of generation: the recipe of transformers' ``run_summarization.py`` around its ``Seq2SeqTrainer``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from datasets import load_dataset
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)

from benchmarks.generation import BATCH_SIZE, BEAMS, SOURCE, TARGET, write_result

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def main(model_folder: str, rows: str, scratch: str, precision: str, written: str) -> None:
    set_seed(1337)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(model_folder, dtype="float64" if precision == "64" else "float32")
    dataset = load_dataset("json", data_files=rows, split="train", cache_dir=f"{scratch}/cache_of_peer")

    def tokenize(examples: dict) -> dict:
        encoded = tokenizer(examples["document"], max_length=SOURCE, truncation=True)
        labels = tokenizer(text_target=examples["summary"], max_length=TARGET, truncation=True)
        return {**encoded, "labels": labels["input_ids"]}

    dataset = dataset.map(tokenize, batched=True, remove_columns=dataset.column_names)
    scorer = RougeScorer(ROUGE, use_stemmer=True)
    texts: list[str] = []

    def decoded(ids: np.ndarray) -> list[str]:
        whole = np.where(ids == -100, tokenizer.pad_token_id, ids)
        return [text.strip() for text in tokenizer.batch_decode(whole, skip_special_tokens=True)]

    def metrics(found: tuple) -> dict:
        texts[:], references = (decoded(ids) for ids in found)
        scores = [scorer.score(reference, text) for reference, text in zip(references, texts, strict=True)]
        rouge = {name: float(np.mean([score[name].fmeasure for score in scores])) for name in ROUGE}
        return {**rouge, "bleu": corpus_bleu(texts, [references]).score}

    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=f"{scratch}/outputs_of_peer",
            per_device_eval_batch_size=BATCH_SIZE,
            predict_with_generate=True,
            generation_max_length=TARGET,
            generation_num_beams=BEAMS,
            bf16=precision == "bf16",
            use_cpu=True,
            report_to="none",
        ),
        eval_dataset=dataset,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model, label_pad_token_id=-100),
        compute_metrics=metrics,
        processing_class=tokenizer,
    )
    start, cpu_start = time.perf_counter(), time.process_time()
    trainer.evaluate()
    seconds = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
    write_result(Path(written), texts, seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
