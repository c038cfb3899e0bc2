# Frozen linear segmentation on Cityscapes as VICRegL's released configs have it: ResNets, crop
# 512x1024. There are none of other families: ours, as on VOC, crop 512x512.
_base_ = ['_base_/cityscapes.py', '_base_/linear_released.py', '_base_/ci_cityscapes.py']
protocol = dict(
    name='cityscapes_linear_released',
    version=1,
    kind='segmentation_linear_frozen',
    title='Frozen linear segmentation, Cityscapes (released configs)',
    tables=['1'],
    source="VICRegL's released segmentation configs; mmsegmentation 40k schedule",
    cost='paper: GPU hours; ci: about 10 minutes on 2 CPU cores')
data = dict(crop=(512, 1024))
schedule = dict(batch_size=8)
eight = dict(data={{_base_.data}}, schedule=dict(batch_size=8))
families = dict(convnext=eight, vit=eight, swin=eight)
profiles = dict(ci={{_base_.ci}})
