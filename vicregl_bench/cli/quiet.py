"""Importing the OpenMMLab packages without what they print on the way."""

import contextlib
import io
import logging
import warnings


def import_engine() -> None:
    """Import mmseg, and drop its remarks on optional parts that we do not use.

    mmcv without its compiled extension prints and warns once per missing operator; none of them
    is used by segmentation. Errors still come through as exceptions.
    """
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mmseg.datasets
            import mmseg.models  # noqa: F401
    finally:
        logging.disable(previous)
