"""A detector solves two tasks at once: boxes are its detection, masks its instance segmentation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

BOXES, MASKS = "detection", "instance-segmentation"
OF_MASKS = {
    "mask_test_loss": "test_loss",
    "mask_test_loss_standard_error": "test_loss_standard_error",
}
"""Columns of a detector's record, and what they are in the row of its masks."""
OF_BOXES_ALONE = ("box_ap", "box_ap50", "box_ap75")


def boxes_and_masks(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with two rows for each measured record of a detector, as published records have them.

    The row of task 'detection' has the loss of the boxes and all average precisions; the one of task
    'instance-segmentation' after it has the loss and the precision of the masks. Both have the record's costs and
    its `cell`, by which it counts once: see `count_records`.
    """
    import pandas as pd

    loss = next(iter(OF_MASKS))
    if loss not in table:
        return table  # from before there were detectors, not of records, or made into rows before it was saved
    boxes = table.drop(columns=[name for name in OF_MASKS if name in table])
    detectors = table["task"].eq(BOXES)
    if "source" in table:
        detectors &= table["source"].eq("measured")
    if not detectors.any():
        return boxes
    known = {new: table.loc[detectors, old] for old, new in OF_MASKS.items() if old in table}
    nothing = {name: None for name in OF_BOXES_ALONE if name in table}
    masks = boxes[detectors].assign(task=MASKS, **known, **nothing).astype(boxes.dtypes.to_dict())
    return pd.concat([boxes, masks]).sort_index(kind="stable").reset_index(drop=True)


def count_records(table: "pd.DataFrame") -> int:
    """Records that the rows are of; both rows of a detector count once."""
    return int(table["cell"].nunique()) if "cell" in table else len(table)
