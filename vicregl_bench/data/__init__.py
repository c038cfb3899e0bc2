"""Data sets: what is in them, whether it is sound, what identifies it, and made-up ones.

`segmentation` and `detection` say what a data set is, `voc`, `cityscapes` and `ade20k` read lists
of masks, `voc_boxes` and `coco` of boxes, `classification` of classes, `catalog` chooses by name,
`holdout` splits its train, `fingerprint` identifies one, `check`, `check_detection` and
`check_classification` decode all of it, `sound` does so once, `scene` draws labelled pictures,
`generate` writes them in a real layout and `made_folder` guards where. Imports neither torch nor
mmengine.
"""

from vicregl_bench.data.catalog import (
    CLASSIFICATION_SETS,
    DETECTION_SETS,
    MULTI_LABEL_SETS,
    SEGMENTATION_SETS,
    class_colours,
    read_classification,
    read_detection,
    read_multi_label,
    read_segmentation,
)
from vicregl_bench.data.check import CheckReport, Problem, Report, check_segmentation
from vicregl_bench.data.check_classification import ClassificationReport, check_classification
from vicregl_bench.data.check_detection import DetectionReport, check_detection
from vicregl_bench.data.classification import (
    ClassificationData,
    Labelled,
    MultiLabelData,
    MultiLabelled,
    names_sha256,
    read_folder,
    read_imagenet,
    read_subset,
    read_voc07_classification,
)
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
    MAKERS,
    make_ade20k,
    make_cityscapes,
    make_coco,
    make_image_folder,
    make_voc,
    make_voc_boxes,
)
from vicregl_bench.data.holdout import split_holdout
from vicregl_bench.data.segmentation import (
    IGNORE,
    MaskValues,
    Pair,
    SegmentationData,
    read_mask,
)
from vicregl_bench.data.sound import require_sound
from vicregl_bench.data.voc import CLASSES, palette, read_voc_segmentation
from vicregl_bench.data.voc_boxes import read_voc_detection

__all__ = [
    "CLASSES",
    "CLASSIFICATION_SETS",
    "DETECTION_SETS",
    "IGNORE",
    "MAKERS",
    "MULTI_LABEL_SETS",
    "SEGMENTATION_SETS",
    "AnnotationError",
    "Annotations",
    "CheckReport",
    "ClassificationData",
    "ClassificationReport",
    "DetectionData",
    "DetectionReport",
    "Fingerprint",
    "Labelled",
    "MaskValues",
    "MultiLabelData",
    "MultiLabelled",
    "Pair",
    "Picture",
    "Problem",
    "Report",
    "SegmentationData",
    "check_classification",
    "check_detection",
    "check_segmentation",
    "class_colours",
    "fingerprint",
    "list_sha256",
    "make_ade20k",
    "make_cityscapes",
    "make_coco",
    "make_image_folder",
    "make_voc",
    "make_voc_boxes",
    "names_sha256",
    "palette",
    "read_classification",
    "read_coco_detection",
    "read_detection",
    "read_folder",
    "read_imagenet",
    "read_mask",
    "read_multi_label",
    "read_segmentation",
    "read_subset",
    "read_voc07_classification",
    "read_voc_detection",
    "read_voc_segmentation",
    "require_sound",
    "split_holdout",
    "stat_key",
]
