"""`scaling evaluate`."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scaling.cli.output import Format, duration, message, number, print_json, show_table
from scaling.cli.run_grid import DeviceChoice
from scaling.errors import UsageError

if TYPE_CHECKING:
    from scaling.grid.saved_models import SavedModel
    from scaling.records import Record
    from scaling.training.evaluate import Evaluation
    from scaling.training.evaluate_saved import SavedResult

SINGLE = {"precision": "fp32"}
METRICS = {
    "test loss": "test_loss",
    "top-1": "accuracy",
    "top-5": "accuracy_top5",
    "calibration error": "calibration_error",
    "mean IoU": "mean_iou",
    "pixel accuracy": "pixel_accuracy",
    "mask test loss": "mask_test_loss",
    "box AP": "box_ap",
    "box AP50": "box_ap50",
    "box AP75": "box_ap75",
    "mask AP": "mask_ap",
    "mask AP50": "mask_ap50",
    "mask AP75": "mask_ap75",
}
ABSENT = {
    "classification": "",
    "segmentation": "; in mean IoU it counts as 0 where it is predicted, and else not at all",
    "detection": "; average precision is of the others",
}
"""What a class without examples does to means over classes."""


def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(help="Cell's folder, checkpoint file, or run directory.", metavar="CHECKPOINT")
    ],
    design: Annotated[
        str | None, typer.Option(help="Of a run directory's cell, or of a file that does not say.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of a run directory's cell.")] = None,
    stage: Annotated[
        str | None, typer.Option(help="Name of the pretraining that a run directory's cell is of.")
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Study whose data are used.", show_default="the cell's own data")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE in place of the data's own; may be repeated.")
    ] = None,
    input_size: Annotated[
        int | None, typer.Option(help="Pixels per side; positions are resampled.", show_default="the design's")
    ] = None,
    crop_ratio: Annotated[
        str | None,
        typer.Option(help="Share of the resized short side that is kept, or 'paper'.", show_default="the recipe's"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images, or windows, at once.", show_default="as in training, else 64")
    ] = None,
    device: Annotated[DeviceChoice, typer.Option(help="Where to evaluate.")] = DeviceChoice.AUTO,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TABLE,
) -> None:
    """Test weights that were saved: loss with its standard error, top-1, top-5, calibration error; mean IoU; AP.

    A cell's checkpoint is tested on the data of its own cell, and gives the numbers of its record again.

    [bold]Examples[/bold]

    scaling evaluate runs/my-study --design deit-nano/4@24+linear --seed 0

    scaling evaluate runs/digits/cells/0123456789ab --data test_images=8192 --input-size 48

    scaling evaluate deit_base.pth --design deit-base/16@224 --study imagenet.toml --crop-ratio 0.875
    """
    from scaling.grid import find_device, require_training
    from scaling.grid.saved_models import data_changes, find_saved

    require_training()
    changes = data_changes(data or [])
    saved = find_saved(
        checkpoint,
        design=design,
        seed=seed,
        stage=stage,
        study=study,
        data=changes,
        input_size=input_size,
        crop_ratio=crop_ratio,
    )
    place = find_device(device.value)
    if place.kind == "cpu" and saved.cell.recipe.precision == "fp16":
        message("tested in fp32: fp16 needs a CUDA device")
        saved = replace(saved, cell=replace(saved.cell, recipe=saved.cell.recipe.model_copy(update=SINGLE)))
    from scaling.training.evaluate_saved import evaluate_saved

    size = _at_once(saved, batch_size)
    _use_threads_of(saved, place.count)
    started = time.perf_counter()
    tested = evaluate_saved(saved.cell, saved.weights, place.kind, size)
    seconds = time.perf_counter() - started
    if output is Format.JSON:
        print_json(_as_json(saved, tested, place.kind, size, seconds))
    else:
        _show(saved, tested, same_data=study is None and not changes and input_size is None and crop_ratio is None)
        message(f"{tested.result.test_images:,} images in {duration(seconds)} on {place.kind}")
    if tested.missing_classes:
        names = ", ".join(map(str, tested.missing_classes[:10])) + ", ..." * (len(tested.missing_classes) > 10)
        message(f"the test set has no example of class {names}{ABSENT[saved.cell.data.task]}")


def _at_once(saved: "SavedModel", asked: int | None) -> int:
    """Images, or windows of one image, that are tested at once."""
    from scaling.data.streams import tested_at_once
    from scaling.training.cells import EVALUATION_BATCHES
    from scaling.training.evaluate import windows_of

    cell, trained = saved.cell, saved.record.micro_batch_size if saved.record else None
    size = asked or EVALUATION_BATCHES * (trained or 16)
    used = size if windows_of(cell, size) else tested_at_once(cell, size)
    if asked is not None and used != asked:
        told = f"images of {cell.data.task} keep their sides, and are tested one at a time"
        raise UsageError(f"--batch-size {asked}: {told}; leave it out")
    return used


def _use_threads_of(saved: "SavedModel", cores: int) -> None:
    """On a CPU the number of threads decides how sums are rounded."""
    import torch

    if saved.record and saved.record.threads:
        torch.set_num_threads(min(saved.record.threads, cores))


def _as_json(
    saved: "SavedModel", tested: "SavedResult", device: str, batch_size: int, seconds: float
) -> dict[str, Any]:
    cell, result = saved.cell, tested.result
    return {
        "checkpoint": str(saved.weights),
        "cell": saved.record.cell if saved.record else None,
        "design": str(cell.design),
        "dataset": cell.data.name,
        "data": cell.data.model_dump(mode="json"),
        "precision": cell.recipe.precision,
        "device": device,
        "batch_size": batch_size,
        "positions": tested.positions,
        "test_loss": result.test_loss,
        "test_loss_standard_error": result.test_loss_standard_error,
        "mask_test_loss_standard_error": result.mask_test_loss_standard_error,
        **{name: getattr(result, name) for name in METRICS.values() if name != "test_loss"},
        "test_images": result.test_images,
        "missing_classes": list(tested.missing_classes),
        "seconds": seconds,
    }


def _show(saved: "SavedModel", tested: "SavedResult", same_data: bool) -> None:
    recorded = saved.record if same_data else None
    shown = [(label, name) for label, name in METRICS.items() if getattr(tested.result, name) is not None]
    columns = ["", "now"] + ["in its record"] * (recorded is not None)
    lines = [[label, *(_value(each, name) for each in (tested.result, recorded) if each)] for label, name in shown]
    show_table(f"{saved.cell.design} on {saved.cell.data.name}", columns, lines)
    if tested.positions != "as they are":
        message(f"positions resampled {tested.positions}")


def _value(result: "Evaluation | Record", name: str) -> str:
    return number(getattr(result, name), getattr(result, f"{name}_standard_error", None))
