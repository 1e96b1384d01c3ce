"""Tables 2 and 3: segmentation by decoder, and detection with instance segmentation."""

from scaling.figures.material import FigureError
from scaling.figures.results import Result, each_trained, model_name, plain
from scaling.figures.tables.layout import Row, Table, best_of_groups, keys_of, long_form, notes_on, word
from scaling.figures.values import METRICS, Value, level, rounded
from scaling.figures.words import NAMES
from scaling.records import BOXES

NO_DECODER = ("linear", None)
DETECTION = ("box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75")
APART = ("study", "dataset", "input_size")


def segmentation(found: list[Result], published: bool) -> Table:
    """Table 2: mean IoU by decoder, a linear layer being none; bold is the best of a model and input size."""
    metric = METRICS["mean_iou"]
    shown = [r for r in plain(found) if r["task"] == "segmentation" or r.value(metric).known]
    shown = [result for result in shown if result.value(metric).known or result.value(metric).note]
    if not any(result.value(metric).known for result in shown):
        raise FigureError(
            "no finished record has mean_iou; train a study whose task is segmentation, such as: "
            "scaling run-grid digits-quick"
        )
    values = level([result.value(metric) for result in shown])
    groups = [(*(result[column] for column in APART), model_name(result)) for result in shown]
    sizes = [parameters(result) for result in shown]
    keys = keys_of(shown, (), APART)
    rows, long = [], []
    for result, size, best, group in zip(shown, sizes, best_of_groups(values, groups, True), groups, strict=True):
        decoder, patch = "none" if result["head"] in NO_DECODER else result["head"], result["patch_size"]
        apart = keys(result)
        words = (word(model_name(result)), *apart.values(), word(NAMES.get(decoder, decoder)))
        rows.append(Row((*words, size, word(f"{patch}×{patch}"), best), str(group)))
        of_model = {name: word(result[name]) for name in ("architecture", "size")}
        long.append(apart | of_model | {"decoder": word(decoder), "params_millions": size, "patch_size": word(patch)})
    columns = ("Model", *(_name(column) for column in keys(shown[0])), "Decoder", "Params (M)", "Patch", "mIoU (%)")
    notes = notes_on(rows, published, "the best of a model and input size", metric)
    metrics = [{metric.csv_name: value} for value in values]
    title = "Semantic segmentation by decoder and patch size"
    return Table(2, title, columns, len(columns) - 3, tuple(rows), notes, long_form(long, metrics))


def detection(found: list[Result], published: bool) -> Table:
    """Table 3: average precision of boxes and masks; bold is the best of a model, column by column."""
    metrics = [METRICS[name] for name in DETECTION]
    once = each_trained(plain(found))
    shown = [result for result in once if any(result.value(m).known for m in metrics) or result["task"] == BOXES]
    by_metric = {metric: level([result.value(metric) for result in shown]) for metric in metrics}
    if not any(value.known for values in by_metric.values() for value in values):
        raise FigureError(
            "no finished record has box_ap or mask_ap; run a study of a detector, or give a table of records with the "
            f"columns architecture, size, patch_size, {', '.join(DETECTION)}"
        )
    keys = keys_of(shown, ("architecture", "size", "patch_size"), ("study", "dataset", "head", "input_size"))
    apart = [name for name in keys(shown[0]) if name not in ("architecture", "size", "patch_size")]
    groups = [(*(result[column] for column in apart), model_name(result)) for result in shown]
    best = [best_of_groups(values, groups, True) for values in by_metric.values()]
    rows = []
    for place, (result, group) in enumerate(zip(shown, groups, strict=True)):
        words = (word(model_name(result)), *(word(result[column]) for column in apart))
        patch = word(f"{result['patch_size']}×{result['patch_size']}")
        rows.append(Row((*words, patch, *(column[place] for column in best)), str(group)))
    columns = ("Model", *map(_name, apart), "Patch", *(metric.label for metric in metrics))
    values = [{m.csv_name: column[place] for m, column in by_metric.items()} for place in range(len(shown))]
    notes = notes_on(rows, published, "the best of a model in each column")
    long = long_form([keys(result) for result in shown], values)
    title = "Object detection and instance segmentation: average precision (%)"
    return Table(3, title, columns, 2 + len(apart), tuple(rows), notes, long)


def parameters(result: Result) -> Value:
    """Millions of parameters: as printed, else with three digits; estimated where they were not counted."""
    counted = result.mean("parameters") or result.mean("estimated_parameters")
    return rounded(None if counted is None else counted / 1e6)


def _name(column: str) -> str:
    return column.removesuffix("_size").capitalize()
