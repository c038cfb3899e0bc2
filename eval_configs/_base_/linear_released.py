# Frozen linear segmentation as VICRegL's released configs have it. ResNets: output stride 8,
# BatchNorm (affine) and dropout 0.1 before the 1x1, one learning rate. ConvNeXts: four maps,
# BatchNorm without dropout, AdamW. Ours: ViTs and Swins as ConvNeXts, there are no configs of them.
_base_ = ['sgd_40k.py', 'adamw_40k.py']
backbone = dict(output_stride=8)
head = dict(batch_norm=True, dropout=0.1, init_std=0.01)
sweep = dict(lrs=[0.01], seeds=3, run_seed=0, holdout=0.1)
normed = dict(
    backbone=dict(),
    schedule={{_base_.adamw}},
    slide={{_base_.windows}},
    head=dict(batch_norm=True, dropout=0.0, init_std=0.01),
    sweep=dict(lrs=[1e-4], seeds=3, run_seed=0, holdout=0.1))
xlarge = dict(sweep=dict(lrs=[8e-5], seeds=3, run_seed=0, holdout=0.1))
families = dict(
    convnext=normed,
    vit=normed,
    swin=normed,
    convnext_xlarge=xlarge,
    convnext_xlarge_no_layerscale=xlarge)
profiles = dict(
    paper=dict(),
    ci_convnext={{_base_.ci_adamw}},
    ci_vit={{_base_.ci_adamw}},
    ci_swin={{_base_.ci_adamw}})
