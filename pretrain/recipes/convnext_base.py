# VICRegL, ConvNeXt-B: table 2.
_base_ = ["_base_/vicregl.py", "_base_/convnext.py"]
recipe = dict(
    name="convnext_base", title="VICRegL, ConvNeXt-B", source="VICRegL, section 3.3 and table 2"
)
model = dict(backbone="convnext_base")
optimizer = dict(base_lr=0.001 * 256 / 576)
schedule = dict(batch_size=576)  # the paper's 572 does not divide over its 16 GPUs
