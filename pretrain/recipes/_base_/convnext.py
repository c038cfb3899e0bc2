# ConvNeXt of VICRegL, section 3.3: multi-crop, AdamW, batch 384 (S).
views = dict(
    large_size=224,
    # both scales and the six small views: the released code; the paper gives the maps' sides alone
    large_scale=(0.4, 1.0),
    small_count=6,
    small_size=96,
    small_scale=(0.08, 0.4),
    pipeline="symmetric",
    interpolation="bilinear",
    normalisation="paper",
    track_flips=True,
)
model = dict(
    backbone="convnext_small",
    second_backbone=None,
    shared=True,
    expander=(8192, 8192, 8192),
    projector=(512, 512, 512),
    norm="layer",  # the released code; the paper is silent
)
optimizer = dict(
    type="AdamW",
    base_lr=0.001 * 256 / 384,  # the paper's 0.001 is the peak at batch 384, here per 256
    weight_decay=1e-6,
    momentum=0.9,
    eta=0.001,  # of LARS only
    betas=(0.9, 0.999),  # torch's default; the paper is silent
)
schedule = dict(
    epochs=400,
    batch_size=384,
    warmup_epochs=10,
    end_lr_ratio=0.01,  # 1e-5 of 0.001
)
