# Fine-tuned linear segmentation on Cityscapes, batch 8. Ours: appendix D.2 of VICRegL says "frozen
# or fine-tuned" of its data sets, but no table has this column, and no family but ResNets is on
# Cityscapes; the others as on VOC.
_base_ = ['_base_/cityscapes.py', '_base_/linear_ft.py', '_base_/ci_cityscapes.py']
protocol = dict(
    name='cityscapes_linear_ft',
    version=1,
    kind='segmentation_linear_finetuned',
    title='Fine-tuned linear segmentation, Cityscapes',
    tables=[],
    source='ours, after VICRegL, appendix D.2; mmsegmentation 40k schedule',
    cost='paper: GPU days; ci: about 15 minutes on 2 CPU cores')
schedule = dict(batch_size=8)
eight = dict(schedule=dict(batch_size=8))
families = dict(convnext=eight, vit=eight, swin=eight)
profiles = dict(ci={{_base_.ci}})
