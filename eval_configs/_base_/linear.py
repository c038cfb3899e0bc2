# Frozen linear segmentation as the text of VICRegL has it (appendix D.2). ResNets: last stage at
# output stride 16, a plain 1x1 head, bilinear upsampling to the mask, five learning rates, mean of
# three runs with random heads. ConvNeXts and ViTs: four maps concatenated, AdamW, rates of their
# own. Ours, where the paper is silent: whole-image test of ResNets, sliding windows of the others;
# Swins as ConvNeXts.
_base_ = ['sgd_40k.py', 'adamw_40k.py']
backbone = dict(output_stride=16)
head = dict(batch_norm=False, dropout=0.0, init_std=0.01)
sweep = dict(lrs=[0.1, 0.05, 0.03, 0.02, 0.01], seeds=3, run_seed=0, holdout=0.1)
small_rates = dict(
    backbone=dict(),
    schedule={{_base_.adamw}},
    slide={{_base_.windows}},
    sweep=dict(lrs=[1e-3, 8e-4, 3e-4, 1e-4, 8e-5], seeds=3, run_seed=0, holdout=0.1))
families = dict(convnext=small_rates, vit=small_rates, swin=small_rates)
profiles = dict(
    paper=dict(),
    ci_convnext={{_base_.ci_adamw}},
    ci_vit={{_base_.ci_adamw}},
    ci_swin={{_base_.ci_adamw}})
