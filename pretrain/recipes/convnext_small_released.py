# ConvNeXt-S as the released training code has it, 100 epochs.
_base_ = ["_base_/vicregl.py", "_base_/convnext.py"]
recipe = dict(
    name="convnext_small_released",
    title="VICRegL, ConvNeXt-S, released settings",
    source="facebookresearch/VICRegL, README and main_vicregl.py (values only)",
)
views = dict(
    pipeline="asymmetric",
    interpolation="bicubic",
    normalisation="released",
    track_flips=False,
)
criterion = dict(preset="released")
optimizer = dict(base_lr=7.5e-4, weight_decay=0.05)
schedule = dict(epochs=100, end_lr_ratio=0.001)
