"""The domain of a run, imported when it is asked for."""

from typing import Any

from vicregl_bench.engine.mmcv_ext import install_mmcv_ext
from vicregl_bench.tasks.domain import Domain
from vicregl_bench.tasks.request import RunRequest


def make_domain(request: RunRequest) -> Domain[Any]:
    """The own part of a run, with its data's lists read.

    Raises:
        DataError: the data root is incomplete.
        ConfigError: settings that are impossible on this data.
    """
    match request.task.info.kind:
        case "detection_c4_finetuned" | "detection_linear_frozen" | "detection_mask_rcnn_finetuned":
            # mmdet settles at its import which of mmcv's operators there are
            install_mmcv_ext()
            from vicregl_bench.tasks.detection.domain import Detection

            return Detection(request)
        case "classification_linear_frozen":
            from vicregl_bench.tasks.classification.domain import Classification

            return Classification(request)
        case "classification_finetuned":
            from vicregl_bench.tasks.classification.finetuned import FinetunedClassification

            return FinetunedClassification(request)
        case "classification_knn_probe":
            from vicregl_bench.tasks.classification.knn import Knn

            return Knn(request)
        case "classification_linear_probe":
            from vicregl_bench.tasks.classification.cached_linear import CachedLinear

            return CachedLinear(request)
        case "classification_search_probe":
            from vicregl_bench.tasks.classification.search import ProbeSearch

            return ProbeSearch(request)
        case "correspondence_probe":
            from vicregl_bench.tasks.correspondence.domain import Correspondence

            return Correspondence(request)
        case "classification_svm_probe":
            from vicregl_bench.tasks.classification.svm import Svm

            return Svm(request)
        case "segmentation_knn_probe":
            from vicregl_bench.tasks.segmentation.dense_knn import DenseKnn

            return DenseKnn(request)
        case _:
            from vicregl_bench.tasks.segmentation.domain import Segmentation

            return Segmentation(request)
