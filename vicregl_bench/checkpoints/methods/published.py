"""What VICRegL's paper reports for a method: tables 1, 2, 8 and 9.

Bardes, Ponce, LeCun, NeurIPS 2022. Numbers are percentages as printed, on frozen backbones unless
said otherwise. A row is called as it is there, without its citation.
"""

from vicregl_bench.checkpoints.card import Reference


def table_1(row: str, imagenet: float, voc: float, cityscapes: float) -> tuple[Reference, ...]:
    """Linear evaluation of ResNet-50: ImageNet accuracy; mIoU on VOC and on Cityscapes."""
    return _references(
        f"VICRegL, table 1, row {row}",
        "resnet50",
        imagenet_linear=imagenet,
        voc_linear=voc,
        cityscapes_linear=cityscapes,
    )


def table_2(
    row: str, arch: str, imagenet: float, voc: float, ade20k: float
) -> tuple[Reference, ...]:
    """Linear evaluation of ViTs and ConvNeXts: ImageNet accuracy; mIoU on VOC and on ADE20k."""
    return _references(
        f"VICRegL, table 2, row {row}",
        arch,
        imagenet_linear=imagenet,
        voc_linear=voc,
        ade20k_linear=ade20k,
    )


def table_8(row: str, frozen: float) -> tuple[Reference, ...]:
    """An FCN head on a frozen ResNet-50: mIoU on VOC."""
    return _references(f"VICRegL, table 8, row {row}, frozen", "resnet50", voc_fcn=frozen)


def table_9(row: str, arch: str, fine_tuned: float, linear: float) -> tuple[Reference, ...]:
    """Detection on VOC: AP of Faster R-CNN C4, fine-tuned; AP of a linear head, frozen."""
    return _references(
        f"VICRegL, table 9, row {row}", arch, voc_det_frcnn_c4=fine_tuned, voc_det_linear=linear
    )


def _references(source: str, arch: str, **values: float) -> tuple[Reference, ...]:
    return tuple(Reference(task, arch, value, source) for task, value in values.items())
