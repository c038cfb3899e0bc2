# Linear segmentation on ConvNeXts and ViTs (VICRegL, appendix D.2 and the released configs;
# iBOT's protocol): AdamW, weight decay 0.05, linear warm-up over 1500 iterations from 1e-6, poly
# 1.0 down to 0; tested by windows of 512 at stride 341.
adamw = dict(
    iters=40000,
    batch_size=16,
    optimizer=dict(type='AdamW', betas=(0.9, 0.999), weight_decay=0.05),
    poly=dict(power=1.0, eta_min=0.0),
    warmup=dict(iters=1500, start_factor=1e-6))
windows = dict(crop=512, stride=341)
# The `ci` profile: the same shares of 60 iterations and of 256 px.
ci_adamw = dict(schedule=dict(warmup=dict(iters=2)), slide=dict(crop=256, stride=171))
