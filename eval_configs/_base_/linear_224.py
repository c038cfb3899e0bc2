# Linear classification on frozen features as the text of VICRegL has it (appendix D.1): SGD, batch 256,
# 100 epochs, the best of seven learning rates; random crops of 224 in training, 256 x 256 and the
# central 224 in test. Not in D.1 and taken from VICReg (appendix B.2, and its released code): cosine to
# 0, momentum 0.9, weight decay 1e-6, flip, crops of 0.08 to 1 of the area, N(0, 0.01). Ours: three
# seeds (the paper has one).
data = dict(crop=224, scale=(0.08, 1.0), flip=0.5, resize=(256, 256))
schedule = dict(
    epochs=100,
    batch_size=256,
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-6),
    cosine=dict(eta_min_ratio=0.0))
classifier = dict(init_std=0.01, batch_norm=False)
sweep = dict(lrs=[30.0, 10.0, 1.0, 0.3, 0.1, 0.03, 0.01], seeds=3, run_seed=0, holdout=0.1)
# The `ci` profile: four epochs of smaller batches, on a thousand pictures.
profiles = dict(paper=dict(), ci=dict(schedule=dict(epochs=4, batch_size=64)))
