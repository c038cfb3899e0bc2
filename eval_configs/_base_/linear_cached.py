# Linear classification on features of central crops, taken once: no paper of the seeds has it, and no
# score of it stands beside imagenet_linear's, which trains on random crops. Softmax regression by L-BFGS
# over a grid of penalties, as CLIP (2103.00020, appendix A.3: at most 1,000 iterations, the penalty out of
# 96 between 1e-6 and 1e6, beside the sum of losses) and DINOv2 (its log_regression.py: 45 values of C
# between 1e-6 and 1e5). Ours: eight penalties, beside the mean of losses (C = 1 / (l2 N)); a tolerance
# of 1e-6 (scikit-learn's 1e-4 ends at once where there are a thousand classes); channels standardised over
# train, where CLIP and DINOv2 take them as they are: one grid then suits backbones whose features are of
# any size, and L-BFGS converges. The grid of solver sgd is ours, from VICRegL's D.1 (SGD, batch 256, 100
# epochs, rates) and VICReg's weight decay of 1e-6. The crop is D.1's in test.
data = dict(crop=224, resize=(256, 256))
probe = dict(solver='lbfgs', scaling='standardize')
lbfgs = dict(max_iter=1000, tolerance=1e-6)
sgd = dict(epochs=100, batch_size=256, momentum=0.9, init_std=0.01)
sweep = dict(
    l2=[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0],
    lrs=[1.0, 0.3, 0.1, 0.03, 0.01],
    weight_decays=[1e-6, 1e-4],
    seeds=3,
    run_seed=0,
    holdout=0.1)
profiles = dict(
    paper=dict(),
    ci=dict(
        sgd=dict(epochs=10, batch_size=64),
        sweep=dict(l2=[1e-3, 1e-1], lrs=[0.1, 0.01], weight_decays=[1e-6], seeds=1)))
