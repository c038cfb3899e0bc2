# ResNet-50 of VICRegL, section 3.3: 2 x 224 px, LARS, batch 2048.
views = dict(
    large_size=224,
    large_scale=(0.08, 1.0),  # VICReg B.1 prints 0.08-0.1, a misprint
    small_count=0,
    small_size=96,
    small_scale=(0.08, 0.4),
    pipeline="symmetric",  # VICReg, appendix B.1
    interpolation="bilinear",  # torchvision's default; the paper is silent
    normalisation="paper",
    track_flips=True,  # VICRegL, appendix C
)
model = dict(
    backbone="resnet50",
    second_backbone=None,
    shared=True,
    expander=(8192, 8192, 8192),
    projector=(512, 512, 512),
    norm="batch",
)
optimizer = dict(
    type="LARS",
    base_lr=0.1 * 256 / 2048,  # the paper's 0.1 is the peak at batch 2048, here per 256
    weight_decay=1e-6,
    momentum=0.9,  # VICReg's released code and LARS' custom; the paper is silent
    eta=0.001,
    betas=(0.9, 0.999),  # of AdamW only
)
schedule = dict(
    epochs=300,
    batch_size=2048,
    warmup_epochs=10,
    end_lr_ratio=0.02,  # 0.002 of 0.1
)
