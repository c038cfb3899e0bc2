# mmsegmentation's 40k schedule: SGD 0.9, weight decay 5e-4, poly 0.9 down to 1e-4, no warm-up;
# nominal batch 16 on VOC. The learning rates are the protocol's own.
schedule = dict(
    iters=40000,
    batch_size=16,
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=5e-4),
    poly=dict(power=0.9, eta_min=1e-4))
