"""Which exports of single steps are kept."""

from pathlib import Path

import pytest

from transformers_framework.storage.exports import surplus


@pytest.mark.parametrize(
    ("keep", "step", "removed"),
    [
        (5, 100, []),
        (1, 100, ["ckpt_epoch_0_step_9", "ckpt_epoch_1_step_10"]),
        (0, 100, ["ckpt_epoch_0_step_9", "ckpt_epoch_1_step_10", "ckpt_epoch_1_step_100"]),
        # 100 was written by a process that was killed before its checkpoint
        (1, 10, ["ckpt_epoch_1_step_100", "ckpt_epoch_0_step_9"]),
        (2, 10, ["ckpt_epoch_1_step_100"]),
    ],
)
def test_the_newest_are_kept(tmp_path: Path, keep: int, step: int, removed: list[str]) -> None:
    for name in ("best", "final", "ckpt_mine", "ckpt_epoch_0_step_9", "ckpt_epoch_1_step_10", "ckpt_epoch_1_step_100"):
        (tmp_path / name).mkdir()
    assert [path.name for path in surplus(tmp_path, keep=keep, step=step)] == removed
