"""Images with boxes and masks in COCO's format: read, resized with their instances, and refused with their names."""

import json
import logging
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from scaling.data import DataError, Scenes, Share, data_fingerprint, held_out_batches, open_data, training_batches
from scaling.data.coco import open_coco
from scaling.design import Cell, parse_data
from scaling.scenes import Detections, Instances
from scaling.training.average_precision import AveragePrecision
from tests.data import made_dense as made

EVERYTHING = {"recipe__resize_range": [0.6, 1.0], "recipe__horizontal_flip": 0.5, "recipe__color_jitter": 0.4}


def data_of(root: Path, **changes: Any) -> Any:
    about = {"name": "coco-format", "path": str(root), "classes": 3, "train_images": made.TRAIN}
    return parse_data(about | changes)


def cell_of(root: Path, **changes: Any) -> Cell:
    return made.dense_study(root, "coco-format", **changes).cells()[0]


def batches(cell: Cell, count: int, share: Share, workers: int = 0) -> list[Scenes]:
    return list(islice(training_batches(cell, share, workers), count))


def instances(scenes: list[Scenes]) -> list[Instances]:
    return [each for batch in scenes for each in batch.labels if isinstance(each, Instances)]


def test_categories_are_numbered_in_the_order_of_their_ids(tmp_path: Path) -> None:
    found = open_data(data_of(made.make_coco(tmp_path)))
    assert found.train.classes == ("car", "dog", "cup")  # 3, 18, 90
    assert (len(found.train), found.train.listed, len(found.test)) == (made.TRAIN - 1, made.TRAIN, made.TEST)
    _, known = found.train.example(1)
    assert [each["category_id"] for each in known.annotations] == [1, 2, 0]


def test_images_of_nothing_are_left_out_of_training_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = made.make_coco(tmp_path)
    with caplog.at_level(logging.WARNING):
        open_data(data_of(root), anew=True)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"1 of 6 images of {root}/train have nothing to detect, and are left out of training"


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_boxes_and_masks_are_where_the_white_things_are(changes: dict[str, Any], tmp_path: Path) -> None:
    cell = cell_of(made.make_coco(tmp_path), **(changes | {"recipe__color_jitter": 0.0}))
    scenes = batches(cell, 8, Share(4, 4))
    seen = 0
    for batch in scenes:
        sides = batch.images.shape[2:]
        for image, known in zip(batch.images, instances([batch]), strict=False):
            assert known.masks.shape[1:] == sides
            assert not known.masks[:, known.sides[0] :].any()
            assert not known.masks[:, :, known.sides[1] :].any()
            assert (known.boxes[:, :2] >= 0).all()
            assert (known.boxes[:, 2] <= known.sides[1] + 1e-4).all()
            assert (known.boxes[:, 3] <= known.sides[0] + 1e-4).all()
            assert known.annotations is None
            white = (image > 0.2).all(0)
            things = known.masks[~known.crowd].any(0)
            assert (white & things).sum() / (white | things).sum() > 0.85
            for box, mask in zip(known.boxes[~known.crowd], known.masks[~known.crowd], strict=True):
                rows, columns = mask.nonzero().T
                tight = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (box - tight).abs().max() <= 1
                seen += 1
    assert seen > 30
    assert any(known.crowd.any() for known in instances(scenes))


def test_training_images_keep_their_proportions_within_the_longest_side(tmp_path: Path) -> None:
    (root := made.make_coco(tmp_path))
    for known in instances(batches(cell_of(root), 4, Share(4, 4))):
        height, width = known.original_sides
        assert min(known.sides) == 32
        assert known.sides[1] / known.sides[0] == pytest.approx(width / height, rel=0.05)
    short = cell_of(root, data={"longest_side": 40})
    for known in instances(batches(short, 4, Share(4, 4))):
        assert max(known.sides) <= 40
    jittered = instances(batches(cell_of(root, recipe__resize_range=[0.5, 1.0]), 8, Share(4, 4)))
    sides = {min(known.sides) for known in jittered}
    assert len(sides) > 8
    assert min(sides) >= 16
    assert max(sides) <= 32


def test_the_longest_side_is_coco_s_in_proportion() -> None:
    data: Any = parse_data({"name": "coco", "path": "x"})
    assert (data.classes, data.train_images, data.longest(800), data.longest(400)) == (80, 118_287, 1333, 666)


@pytest.mark.parametrize("changes", [{}, EVERYTHING])
def test_workers_and_steps_change_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    """Micro-batches change the padding, and nothing else."""
    cell = cell_of(made.make_coco(tmp_path), **changes)
    whole, other = batches(cell, 4, Share(4, 4)), batches(cell, 4, Share(4, 4), workers=2)
    for here, there in zip(whole, other, strict=True):
        assert torch.equal(here.images, there.images)
    single = batches(cell, 16, Share(4, 1))
    late = batches(cell, 1, Share(4, 4, first_step=3))
    assert torch.equal(late[0].images, whole[3].images)
    for here, there in ((instances(whole), instances(other)), (instances(whole), instances(single))):
        for one, another in zip(here, there, strict=True):
            assert torch.equal(one.boxes, another.boxes)
            assert one.sides == another.sides
            height, width = one.sides
            assert torch.equal(one.masks[:, :height, :width], another.masks[:, :height, :width])
    first = whole[0].images[0]
    height, width = single[0].images.shape[2:]
    assert torch.equal(first[:, :height, :width], single[0].images[0])
    assert (first[:, height:] == 0).all()


def test_what_is_stored_is_found_again_at_original_size(tmp_path: Path) -> None:
    """Boxes of the resized test images, with masks that fill them, have the average precision of a perfect model."""
    cell = cell_of(made.make_coco(tmp_path), **EVERYTHING)
    result = AveragePrecision(3)
    scenes = list(held_out_batches(cell, 2, workers=1))
    assert [len(batch) for batch in scenes] == [1, 1, 1]
    for known in instances(scenes):
        assert known.annotations is not None
        things = ~known.crowd
        count = int(things.sum())
        found = Detections(known.boxes[things], torch.ones(count), known.classes[things], torch.ones(count, 14, 14))
        result.update([known], [found])
    precision = result.compute()
    assert precision.box_ap == pytest.approx(1.0)
    assert precision.mask_ap == pytest.approx(1.0)
    assert instances(scenes)[2].annotations == ()  # an image of nothing is tested


def test_the_fingerprint_is_of_images_and_annotations(tmp_path: Path) -> None:
    here = made.make_coco(tmp_path / "here")
    there = Path(shutil.copytree(here, tmp_path / "there"))
    assert data_fingerprint(data_of(here)) == data_fingerprint(data_of(there))
    file = there / "annotations" / "val.json"
    file.write_text(file.read_text() + " ")
    assert data_fingerprint(data_of(here)) != open_data(data_of(there), anew=True).fingerprint


def refused(root: Path, **changes: Any) -> str:
    with pytest.raises(DataError) as caught:
        open_data(data_of(root, **changes), anew=True)
    message = str(caught.value)
    assert message.startswith("data.")
    assert "\n" not in message
    return message


def test_files_that_are_not_of_the_format_are_refused(tmp_path: Path) -> None:
    root = made.make_coco(tmp_path)
    whole = json.loads((root / "annotations" / "train.json").read_text())

    def changed(**parts: Any) -> str:
        (root / "annotations" / "train.json").write_text(json.dumps(whole | parts))
        return refused(root)

    first, *rest = whole["annotations"]
    assert "is not of COCO's format: annotations: list should have at least 1 item" in changed(annotations=[])
    lacking = {key: value for key, value in first.items() if key != "bbox"}
    assert "is not of COCO's format: annotations[1].bbox: field required" in changed(annotations=[first, lacking])
    assert "annotations[0].bbox[2]" in changed(annotations=[first | {"bbox": [1, 2, "wide", 3]}])
    assert "is of category 4, which is not among the 3" in changed(annotations=[*rest, first | {"category_id": 4}])
    assert "images have the id 10 twice" in changed(images=[whole["images"][0]] * 2)
    assert "categories: list should have at least 1 item" in changed(categories=[])
    renamed = [whole["categories"][0] | {"name": "wolf"}, *whole["categories"][1:]]
    assert "only in " in (message := changed(categories=renamed))
    assert "train: wolf" in message
    missing = [*whole["images"], {"id": 1, "file_name": "gone.png", "height": 9, "width": 9}]
    assert f"1 images of {root}/annotations/train.json are not in {root}/train: gone.png" in changed(images=missing)
    crowds = [each for each in whole["annotations"] if each["iscrowd"]]
    assert "has nothing to detect in any of 6 images" in changed(annotations=crowds)
    for text, said in (("[]", "the file: "), ("{}", "images: field required"), ("{", "is not JSON (EOF")):
        (root / "annotations" / "train.json").write_text(text)
        assert said in refused(root)
    (root / "annotations" / "train.json").unlink()
    assert "train.json cannot be read (No such file or directory)" in refused(root)
    assert "there is no folder of images" in refused(root, train_images_folder="training")


def test_counts_that_differ_are_given(tmp_path: Path) -> None:
    root = made.make_coco(tmp_path)
    assert refused(root, classes=5).endswith("the study says 5: write classes = 3")
    assert refused(root, train_images=5).endswith("the study says 5: write train_images = 6")
    for kind in ("train", "val"):
        (root / f"{kind}2017").symlink_to(root / kind)
        (root / "annotations" / f"instances_{kind}2017.json").symlink_to(root / "annotations" / f"{kind}.json")
    coco: Any = parse_data({"name": "coco", "path": str(root)})
    assert len(open_coco(root, coco).test) == made.TEST
    with pytest.raises(DataError, match="coco has 80; for a part of it use name = 'coco-format'"):
        open_data(coco, anew=True)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "outside": ({"bbox": [500, 500, 10, 10]}, "whose box has no area inside its image"),
    "no area": ({"bbox": [4, 4, 0, 16]}, "whose box has no area inside its image"),
    "no mask": ({"segmentation": []}, "without a mask that can be read"),
    "no polygon": ({"segmentation": [[1, 2, 3, 4]]}, "without a mask that can be read"),
    "odd polygon": ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "without a mask that can be read"),
    "other sides": ({"segmentation": {"size": [9, 9], "counts": [81]}}, "without a mask that can be read"),
    "empty runs": ({"segmentation": {"size": [40, 64], "counts": [2560]}}, "without a mask that can be read"),
    "long runs": ({"segmentation": {"size": [40, 64], "counts": [3, 9000]}}, "without a mask that can be read"),
    "short runs": ({"segmentation": {"size": [40, 64], "counts": [0, 300]}}, "without a mask that can be read"),
    "far away": ({"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]}, "without a mask that can be read"),
    "thinner than can be told": ({"bbox": [63.99999, 4, 20, 16]}, "whose box has no area inside its image"),
    "broken runs": ({"segmentation": {"size": [40, 64], "counts": "abc"}}, "without a mask that can be read"),
    "elsewhere": ({"bbox": [30, 20, 20, 16]}, "whose mask and box differ"),
    "unknown image": ({"image_id": 77}, "of images that are not listed"),
}


@pytest.mark.parametrize("kind", BAD)
def test_annotations_without_use_are_counted_named_and_left_out(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes, said = BAD[kind]
    root = made.make_coco(tmp_path)
    whole = json.loads((root / "annotations" / "train.json").read_text())
    first = whole["annotations"][0]
    made.change(root, "train", annotations=[*whole["annotations"], first | {"id": 99} | changes])
    message = refused(root)
    assert f"1 of 13 annotations of {root}/annotations/train.json cannot be used" in message
    assert message.endswith(f"1 {said} (ids 99)")
    cell = cell_of(root, data={"max_corrupt_share": 0.1})
    with caplog.at_level(logging.WARNING):
        found = {known.image: known for known in instances(batches(cell, 5, Share(4, 4)))}
    assert len(found[0]) == 2
    assert f"of 13 annotations, training leaves out 1 {said} (ids 99)" in caplog.text


@pytest.mark.parametrize("kind", BAD)
def test_annotations_without_use_do_not_end_a_test(kind: str, tmp_path: Path) -> None:
    """Those with a box elsewhere, or none, are still to be found; those without a mask are not."""
    root = made.make_coco(tmp_path)
    whole = json.loads((root / "annotations" / "val.json").read_text())
    first = whole["annotations"][0]
    made.change(root, "val", annotations=[*whole["annotations"], first | {"id": 99} | BAD[kind][0]])
    result = AveragePrecision(3)
    for known in instances(list(held_out_batches(cell_of(root, data={"max_corrupt_share": 0.5}), 2, workers=0))):
        count = int((~known.crowd).sum())
        boxes, classes = known.boxes[~known.crowd], known.classes[~known.crowd]
        result.update([known], [Detections(boxes, torch.ones(count), classes, torch.ones(count, 14, 14))])
    precision = result.compute().mask_ap
    assert precision is not None
    assert (precision < 0.999) == (kind in ("outside", "no area", "thinner than can be told", "elsewhere"))


def test_boxes_that_reach_beyond_their_image_are_clipped(tmp_path: Path) -> None:
    root = made.make_coco(tmp_path)
    whole = json.loads((root / "annotations" / "train.json").read_text())
    box = {"bbox": [-3, -2, 27, 22], "segmentation": [[-3, -2, 24, -2, 24, 20, -3, 20]]}
    made.change(root, "train", annotations=[whole["annotations"][0] | box, *whole["annotations"][1:]])
    found = {known.image: known for known in instances(batches(cell_of(root), 5, Share(4, 4)))}
    assert found[0].boxes[0, :2].tolist() == [0, 0]
    assert found[0].masks[0, 0, 0]


def test_images_of_other_sides_than_their_annotations_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = made.make_coco(tmp_path)
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(root / "train" / "002.png")
    with caplog.at_level(logging.WARNING):
        found = instances(batches(cell_of(root, data={"max_corrupt_share": 0.2}), 5, Share(4, 4), workers=1))
    assert {known.image for known in found} == {0, 1, 3, 4}
    assert "train/002.png cannot be used: is 50 x 50 pixels, its annotations are of 58 x 48" in caplog.text
    with pytest.raises(DataError, match=r"1 of 5 images .* cannot be used.*002\.png"):
        batches(cell_of(root), 5, Share(4, 4))


def test_test_images_come_one_by_one_so_that_none_is_padded(tmp_path: Path) -> None:
    cell = cell_of(made.make_coco(tmp_path))
    for scenes in held_out_batches(cell, 3, workers=0):
        (known,) = instances([scenes])
        assert scenes.images.shape[2:] == known.sides
