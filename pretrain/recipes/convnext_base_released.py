# ConvNeXt-B as the released training code has it, 400 epochs.
_base_ = ["_base_/vicregl.py", "_base_/convnext.py"]
recipe = dict(
    name="convnext_base_released",
    title="VICRegL, ConvNeXt-B, released settings",
    source="facebookresearch/VICRegL, README and main_vicregl.py (values only)",
)
views = dict(
    pipeline="asymmetric",
    interpolation="bicubic",
    normalisation="released",
    track_flips=False,
)
model = dict(backbone="convnext_base")
criterion = dict(preset="released")
optimizer = dict(base_lr=5e-4, weight_decay=0.05)
schedule = dict(batch_size=576, end_lr_ratio=0.001)
