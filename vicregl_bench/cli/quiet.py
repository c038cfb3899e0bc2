"""Importing the OpenMMLab packages without what they print on the way."""

import contextlib
import io
import logging
import warnings


def import_engine(domain: str = "segmentation") -> None:
    """Import mmseg, of detection mmdet, without remarks on optional parts that we do not use.

    mmcv's operators are put in place before (see `engine.mmcv_ext`): mmseg imports mmdet where it
    is installed, and mmdet settles at its import what it has. Errors still come through as
    exceptions.
    """
    from vicregl_bench.engine.mmcv_ext import install_mmcv_ext

    install_mmcv_ext()
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if domain == "detection":
                import mmdet.datasets
                import mmdet.evaluation
                import mmdet.models  # noqa: F401
            else:
                import mmseg.datasets
                import mmseg.models  # noqa: F401
    finally:
        logging.disable(previous)
