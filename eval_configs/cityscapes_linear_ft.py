# Fine-tuned linear segmentation on Cityscapes as the text of VICRegL has it (appendix D.2; table 1,
# ResNet-50): batch 8. The paper has no other family here: ours, as on VOC.
_base_ = ['_base_/cityscapes.py', '_base_/linear_ft.py', '_base_/ci_cityscapes.py']
protocol = dict(
    name='cityscapes_linear_ft',
    version=1,
    kind='segmentation_linear_finetuned',
    title='Fine-tuned linear segmentation, Cityscapes',
    tables=['1'],
    source='VICRegL, appendix D.2; mmsegmentation 40k schedule',
    cost='paper: GPU hours; ci: about 15 minutes on 2 CPU cores')
schedule = dict(batch_size=8)
eight = dict(schedule=dict(batch_size=8))
families = dict(convnext=eight, vit=eight, swin=eight)
profiles = dict(ci={{_base_.ci}})
