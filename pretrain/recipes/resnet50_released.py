# ResNet-50 as the released training code has it, 300 epochs.
_base_ = ["_base_/vicregl.py", "_base_/resnet50.py"]
recipe = dict(
    name="resnet50_released",
    title="VICRegL, ResNet-50, released settings",
    source="facebookresearch/VICRegL, README and main_vicregl.py (values only)",
)
views = dict(
    pipeline="asymmetric",
    interpolation="bicubic",
    normalisation="released",
    track_flips=False,
)
criterion = dict(preset="released")
optimizer = dict(base_lr=0.2)  # 100 epochs: 0.3 at batch 512
schedule = dict(end_lr_ratio=0.001)
