# Frozen linear segmentation on Pascal VOC as the text of VICRegL has it (appendix D.2; tables 1
# and 2, column "Linear Seg., frozen, VOC"). ResNets: last stage at output stride 16, a plain 1x1
# head, bilinear upsampling to the mask, five learning rates, mean of three runs with random heads.
# ConvNeXts and ViTs: four maps concatenated, AdamW, rates of their own. Ours, where the paper is
# silent: whole-image test of ResNets, sliding windows of the others; Swins as ConvNeXts.
_base_ = ['_base_/voc12.py', '_base_/sgd_40k.py', '_base_/adamw_40k.py', '_base_/ci_voc12.py']
protocol = dict(
    name='voc_linear',
    version=1,
    kind='segmentation_linear_frozen',
    title='Frozen linear segmentation, Pascal VOC',
    tables=['1', '2'],
    source='VICRegL, appendix D.2; mmsegmentation 40k schedule',
    cost='paper: GPU hours; ci: about 3 minutes on 2 CPU cores')
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
    ci={{_base_.ci}},
    ci_convnext={{_base_.ci_adamw}},
    ci_vit={{_base_.ci_adamw}},
    ci_swin={{_base_.ci_adamw}})
