# For two CPU cores, half an hour and ten thousand pictures of 128 px; ours throughout.
# ResNet-18 on views of 72 px, whose last map has 3 x 3 cells: gamma is the paper's 4 of 9.
_base_ = ["_base_/vicregl.py"]
recipe = dict(
    name="tiny",
    title="VICRegL, ResNet-18, tiny",
    source="ours: a run that means something without a GPU",
)
views = dict(
    large_size=72,
    large_scale=(0.2, 1.0),
    small_count=0,
    small_size=40,
    small_scale=(0.08, 0.4),
    pipeline="symmetric",
    interpolation="bilinear",
    normalisation="paper",
    track_flips=True,
)
model = dict(
    backbone="resnet18",
    second_backbone=None,
    shared=True,
    expander=(1024, 1024, 1024),
    projector=(256, 256, 256),
    norm="batch",
)
criterion = dict(num_matches=(4, 1))
optimizer = dict(
    type="AdamW", base_lr=0.003, weight_decay=1e-4, momentum=0.9, eta=0.001, betas=(0.9, 0.999)
)
schedule = dict(epochs=4, batch_size=128, warmup_epochs=0.25, end_lr_ratio=0.01)
run = dict(log_every=5, watch_every=20, save_every=50)
