# Logistic regression on frozen features whose training is searched for ("Scaling VICReg", seed 002,
# section 3.2): rate from 1e-4 to 1e-1 and weight decay from 1e-6 to 1e-3, log-uniform, SGD or AdamW,
# cosine or StepLR, up to 100 epochs. Its test-time augmentation is --set data.views=five_crops. Ours, as
# the paper is silent: 50 trials by TPE, chosen on a held-out tenth of train; three seeds of the best;
# batch 256, momentum 0.9, N(0, 0.01); StepLR is a tenth of the rate after each third of the epochs; at least 10
# epochs; features as they are; VICRegL's crop (D.1) of whole pictures.
data = dict(crop=224, resize=(256, 256))
search = dict(
    trials=50,
    scaling='none',
    lr=(1e-4, 1e-1),
    weight_decay=(1e-6, 1e-3),
    optimizers=['SGD', 'AdamW'],
    schedules=['cosine', 'step'],
    epochs=(10, 100),
    batch_size=256,
    momentum=0.9,
    init_std=0.01)
sweep = dict(seeds=3, run_seed=0, holdout=0.1)
profiles = dict(
    paper=dict(),
    ci=dict(search=dict(trials=4, epochs=(1, 10), batch_size=64), sweep=dict(seeds=1)))
