"""Data sets: what is in them, whether it is sound, what identifies it, and made-up ones.

`segmentation` and `detection` say what a data set is, `voc`, `cityscapes` and `ade20k` read lists
of masks, `voc_boxes` and `coco` of boxes, `catalog` chooses by name, `fingerprint` identifies one,
`check` and `check_detection` decode all of it, `sound` does so once, `scene` draws labelled
pictures, `generate` writes them in a real layout and `made_folder` guards where. Imports neither
torch nor mmengine.
"""

from vicregl_bench.data.catalog import (
    DETECTION_SETS,
    SEGMENTATION_SETS,
    class_colours,
    read_detection,
    read_segmentation,
)
from vicregl_bench.data.check import CheckReport, Problem, Report, check_segmentation
from vicregl_bench.data.check_detection import DetectionReport, check_detection
from vicregl_bench.data.coco import read_coco_detection
from vicregl_bench.data.detection import (
    AnnotationError,
    Annotations,
    DetectionData,
    Picture,
    list_sha256,
)
from vicregl_bench.data.fingerprint import Fingerprint, fingerprint, stat_key
from vicregl_bench.data.generate import (
    make_ade20k,
    make_cityscapes,
    make_coco,
    make_voc,
    make_voc_boxes,
)
from vicregl_bench.data.segmentation import (
    IGNORE,
    MaskValues,
    Pair,
    SegmentationData,
    read_mask,
    split_holdout,
)
from vicregl_bench.data.sound import require_sound
from vicregl_bench.data.voc import CLASSES, palette, read_voc_segmentation
from vicregl_bench.data.voc_boxes import read_voc_detection

__all__ = [
    "CLASSES",
    "DETECTION_SETS",
    "IGNORE",
    "SEGMENTATION_SETS",
    "AnnotationError",
    "Annotations",
    "CheckReport",
    "DetectionData",
    "DetectionReport",
    "Fingerprint",
    "MaskValues",
    "Pair",
    "Picture",
    "Problem",
    "Report",
    "SegmentationData",
    "check_detection",
    "check_segmentation",
    "class_colours",
    "fingerprint",
    "list_sha256",
    "make_ade20k",
    "make_cityscapes",
    "make_coco",
    "make_voc",
    "make_voc_boxes",
    "palette",
    "read_coco_detection",
    "read_detection",
    "read_mask",
    "read_segmentation",
    "read_voc_detection",
    "read_voc_segmentation",
    "require_sound",
    "split_holdout",
    "stat_key",
]
