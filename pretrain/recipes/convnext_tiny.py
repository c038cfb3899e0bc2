# ConvNeXt-T with the settings of ConvNeXt-S; not in the paper.
_base_ = ["_base_/vicregl.py", "_base_/convnext.py"]
recipe = dict(
    name="convnext_tiny",
    title="VICRegL, ConvNeXt-T",
    source="ours, after convnext_small: no row of the paper",
)
model = dict(backbone="convnext_tiny")
