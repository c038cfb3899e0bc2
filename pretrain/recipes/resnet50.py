# VICRegL, ResNet-50: the rows of table 1. alpha = 0.9: --set criterion.alpha=0.9; VICReg: 1.
_base_ = ["_base_/vicregl.py", "_base_/resnet50.py"]
recipe = dict(
    name="resnet50",
    title="VICRegL, ResNet-50",
    source="VICRegL, section 3.3 and table 1; VICReg, appendix B.1",
)
