"""RecBole's atomic files that come already parted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asterism.data.importing import Imported
from asterism.data.splits import by_column, leave_one_out

HEAD = "user_id:token\titem_id:token\ttimestamp:float\n"


def test_of_equal_timestamps_the_test_target_is_the_last(
    write: Callable[[str, str], Path], load: Callable[..., Imported]
) -> None:
    write("x.train.inter", HEAD + "u\tA\t16\nu\tB\t16\n")
    write("x.valid.inter", HEAD + "u\tC\t16\n")
    write("x.test.inter", HEAD + "u\tD\t16\n")
    dataset = load().dataset
    assert dataset.interactions["item_id"].to_pylist() == ["A", "B", "C", "D"]
    for split in (by_column(dataset), leave_one_out(dataset)):
        shown = [split.items.id_of(item) for item in split.test.histories.items.tolist()]
        assert (shown, split.items.id_of(int(split.test.targets[0]))) == (["A", "B", "C"], "D")
