# VICRegL, ConvNeXt-XL on ImageNet-22k: table 2. Batch and rate are those of ConvNeXt-B: the paper
# gives none.
_base_ = ["_base_/vicregl.py", "_base_/convnext.py"]
recipe = dict(
    name="convnext_xlarge",
    title="VICRegL, ConvNeXt-XL, ImageNet-22k",
    source="VICRegL, section 4.1 and table 2 (150 epochs)",
)
model = dict(backbone="convnext_xlarge")
optimizer = dict(base_lr=0.001 * 256 / 576)
schedule = dict(epochs=150, batch_size=576)
