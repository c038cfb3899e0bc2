# Semi-supervised classification as VICReg has it (seed 003, table 1; appendix B.2): the backbone is
# fine-tuned with a linear classifier on 1 or 10 % of train; SGD, batch 256, no weight decay, 20 epochs,
# the rates of encoder (sweep.lrs) and classifier (classifier.lr) by cosine; random crops of 0.2 to 1 of
# the area at 224, flip. From its released evaluate.py, where the text is silent: momentum 0.9, N(0, 0.01)
# and zero bias, cosine to 0, in test the shorter side 256 and the central 224, BatchNorm in training
# mode. Not its: crops of 0.08 to 1 (torchvision's default, against the text), a cosine that falls by
# epochs (here by iterations), the best epoch's score (here the last one's). Ours: three seeds.
data = dict(crop=224, scale=(0.2, 1.0), flip=0.5, resize=256)
schedule = dict(
    epochs=20,
    batch_size=256,
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=0.0),
    cosine=dict(eta_min_ratio=0.0))
one_percent = dict(
    classifier=dict(init_std=0.01, batch_norm=False, lr=0.08),
    sweep=dict(lrs=[0.03], seeds=3, run_seed=0, holdout=0.1))
ten_percent = dict(
    classifier=dict(init_std=0.01, batch_norm=False, lr=0.1),
    sweep=dict(lrs=[0.01], seeds=3, run_seed=0, holdout=0.1))
# The `ci` profile: one run of 30 iterations of batch 16, both rates a sixteenth (Goyal et al. 2017): at
# the whole ones a supervised ResNet-50 comes to top-1 16 on 80 pictures of ten classes, at these to 82.
profiles = dict(
    paper=dict(),
    ci=dict(schedule=dict(epochs=None, iters=30, batch_size=16), sweep=dict(seeds=1)))
