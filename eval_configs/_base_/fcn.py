# FCN segmentation, frozen and fine-tuned (VICRegL, table 8). Heads: mmsegmentation's FCN-R50-D8,
# output stride 8, the auxiliary head on the third stage. Schedule: DenseCL's 20k iterations of
# batch 16 (learning rate 0.01); the rest is mmsegmentation's, as in its 40k schedule. Ours, where
# the paper is silent: the same schedule on a frozen trunk, three seeds, and the grid (appendix D
# sweeps "extensively" and names no rates).
_base_ = ['sgd_40k.py']
schedule = dict(iters=20000)
backbone = dict(output_stride=8)
fcn = dict(
    channels=512,
    num_convs=2,
    concat_input=True,
    dropout=0.1,
    auxiliary=dict(channels=256, num_convs=1, concat_input=False, dropout=0.1, loss_weight=0.4))
sweep = dict(lrs=[0.1, 0.05, 0.03, 0.01, 0.005], seeds=3, run_seed=0, holdout=0.1)
# The 3x3 convolutions of fifteen heads at stride 8 would take hours on two CPU cores: the `ci` profile
# has two rates, one seed, and maps at stride 16.
profiles = dict(
    paper=dict(),
    ci_resnet=dict(backbone=dict(output_stride=16), sweep=dict(lrs=[0.05, 0.01], seeds=1)))
