# Frozen linear segmentation on ADE20k as VICRegL's released configs have it (ConvNeXts): 160k
# iterations. There are none of other families: ours, as on VOC.
_base_ = ['_base_/ade20k.py', '_base_/linear_released.py', '_base_/ci_256.py']
protocol = dict(
    name='ade20k_linear_released',
    version=1,
    kind='segmentation_linear_frozen',
    title='Frozen linear segmentation, ADE20k (released configs)',
    tables=['2'],
    source="VICRegL's released segmentation configs; mmsegmentation 160k schedule",
    cost='paper: GPU days; ci: about 10 minutes on 2 CPU cores')
schedule = dict(iters=160000)
long = dict(schedule=dict(iters=160000))
families = dict(convnext=long, vit=long, swin=long)
profiles = dict(ci={{_base_.ci}})
