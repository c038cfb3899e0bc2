# Fine-tuned linear segmentation as the text of VICRegL has it (appendix D.2): as frozen, with the
# whole backbone trained at the head's learning rate, BatchNorm's statistics too. ResNets keep the
# grid ("frozen or fine-tuned"); ConvNeXts and ViTs have one of their own. Ours, where the paper is
# silent: no layer-wise decay of rates, no drop path, weight decay on every parameter, the test of
# the frozen protocol; Swins as ConvNeXts.
_base_ = ['sgd_40k.py', 'adamw_40k.py']
backbone = dict(output_stride=16)
head = dict(batch_norm=False, dropout=0.0, init_std=0.01)
sweep = dict(lrs=[0.1, 0.05, 0.03, 0.02, 0.01], seeds=3, run_seed=0, holdout=0.1)
small_rates = dict(
    backbone=dict(),
    schedule={{_base_.adamw}},
    slide={{_base_.windows}},
    sweep=dict(lrs=[1e-4, 8e-5, 3e-5, 1e-5, 8e-6, 3e-6, 1e-6], seeds=3, run_seed=0, holdout=0.1))
families = dict(convnext=small_rates, vit=small_rates, swin=small_rates)
# The `ci` profile: every learning rate and seed is a run of its own here, so few of them; in 60
# iterations ResNets do not recover from the larger rates (mIoU 3.6 at 0.05, 30.8 at 0.01).
ci_small_rates = dict(
    schedule=dict(warmup=dict(iters=2)),
    slide=dict(crop=256, stride=171),
    sweep=dict(lrs=[1e-4, 1e-5], seeds=1))
profiles = dict(
    paper=dict(),
    ci_resnet=dict(sweep=dict(lrs=[0.02, 0.01], seeds=1)),
    ci_convnext=ci_small_rates,
    ci_vit=ci_small_rates,
    ci_swin=ci_small_rates)
