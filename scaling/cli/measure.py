"""`scaling measure`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scaling.cli.output import RowFormat, amount, message, print_csv, print_json, show_table, si, size
from scaling.cli.run_grid import DeviceChoice

if TYPE_CHECKING:
    from scaling.grid.measuring import Measured


def measure(
    designs: Annotated[
        list[str], typer.Argument(help="Short names, with ranges such as 'deit-*/{16,8}@224'.", metavar="DESIGN...")
    ],
    device: Annotated[DeviceChoice, typer.Option(help="Where to train.")] = DeviceChoice.AUTO,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16.", show_default="bf16, on a CPU fp32")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(help="Images per step.", show_default="the largest that fits, on a CPU at most 32")
    ] = None,
    steps: Annotated[int, typer.Option(help="Timed steps, after 3 that warm up.")] = 10,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Keep only block inputs for backward.")
    ] = False,
    classes: Annotated[int, typer.Option(help="Outputs of the head.")] = 1000,
    hardware: Annotated[
        str | None,
        typer.Option(help="What the estimator takes the device for.", show_default="what it knows of it"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all columns to this .csv or .parquet file, for --calibration.")
    ] = None,
    output: Annotated[RowFormat, typer.Option("--format", help="Output format.")] = RowFormat.TABLE,
) -> None:
    """Train designs for a few steps on this machine: images/s, share of peak, hours and memory.

    Synthetic images, each design in a process of its own: one that crashes or does not fit is a row too. What --out
    saves makes estimates of other designs right for this machine: scaling estimate --calibration FILE.

    [bold]Examples[/bold]

    scaling measure '{deit,adventurer}-base/{16,8}@224' --out mine.csv

    scaling measure deit-nano/{8,4}@32 --device cpu --hardware cpu --steps 5

    scaling estimate deit-base/4@224 --hardware h100 --calibration mine.csv
    """
    from scaling.design import expand_designs
    from scaling.grid.measuring import measuring
    from scaling.records import check_writable_table

    if out is not None:
        check_writable_table(out)
    found = expand_designs(designs)
    setting = measuring(device.value, precision, micro_batch, steps, checkpointing, classes, hardware)
    rows: list[Measured] = []
    for number, row in enumerate(setting.rows(found), start=1):
        rows.append(row)
        message(f"{number} of {len(found)}: {row.design}: {_in_a_word(row)}")
        if out is not None:
            _save(rows, out)
    _show(rows, output)
    if out is not None:
        message(
            f"{len(rows)} row(s) written to {out}; estimate with --calibration {out}, and --hardware for this device"
        )
    if any(row.status != "done" for row in rows):
        raise typer.Exit(1)


def _in_a_word(row: "Measured") -> str:
    if row.status == "done":
        return f"{amount(row.images_per_second)} images/s at {row.micro_batch_size} images per step"
    needed = size(row.estimated_peak_memory_bytes)
    return f"{row.status}: {row.error}; {row.micro_batch_size or 1} image(s) need about {needed}"


def _save(rows: "list[Measured]", out: Path) -> None:
    """After every design, so that a long measurement that is stopped keeps what it has."""
    import pandas as pd

    from scaling.records import save_table

    save_table(pd.DataFrame([row.to_json() for row in rows]), out)


def _show(rows: "list[Measured]", output: RowFormat) -> None:
    values = [row.to_json() for row in rows]
    if output is RowFormat.JSON:
        print_json(values)
    elif output is RowFormat.CSV:
        print_csv(values)
    else:
        _table(rows)


def _table(rows: "list[Measured]") -> None:
    columns = ["design", "img/step", "img/s [quartiles]", "FLOP/s", "of peak", "h/epoch", "estimated"]
    columns += ["memory/img", "estimated", "peak memory"]
    lines = [
        (
            row.design,
            str(row.micro_batch_size or "-"),
            f"{amount(row.images_per_second)} [{amount(row.images_per_second_low)}, "
            f"{amount(row.images_per_second_high)}]"
            if row.status == "done"
            else row.status,
            si(row.flops_per_second),
            "-" if row.peak_share is None else f"{row.peak_share:.1%}",
            amount(row.device_hours_per_epoch),
            _with_ratio(amount(row.estimated_device_hours_per_epoch), row.hours_ratio),
            size(row.memory_bytes_per_image),
            _with_ratio(size(row.estimated_memory_bytes_per_image), row.memory_ratio),
            size(row.peak_memory_bytes),
        )
        for row in rows
    ]
    first = rows[0]
    how = [first.device or "", first.precision, f"{first.steps} steps"] + ["checkpointing"] * first.checkpointing
    show_table(", ".join(filter(None, how)), columns, lines)
    counters = dict.fromkeys(row.memory_counter for row in rows if row.memory_counter)
    for counter in counters:
        message(f"memory: {counter}; in brackets the estimate over what was measured; an epoch is ImageNet-1k's")
    if first.hardware is None:
        message("no share of peak and no estimated hours: the estimator does not know this device; see --hardware")


def _with_ratio(text: str, ratio: float | None) -> str:
    return text if ratio is None else f"{text} ({amount(ratio)}x)"
