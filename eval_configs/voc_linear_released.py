# Frozen linear segmentation on Pascal VOC as VICRegL's released configs have it.
_base_ = ['_base_/voc12.py', '_base_/linear_released.py', '_base_/ci_256.py']
protocol = dict(
    name='voc_linear_released',
    version=1,
    kind='segmentation_linear_frozen',
    title='Frozen linear segmentation, Pascal VOC (released configs)',
    tables=['1', '2'],
    source="VICRegL's released segmentation configs; mmsegmentation 40k schedule",
    cost='paper: GPU hours; ci: about 4 minutes on 2 CPU cores')
profiles = dict(ci={{_base_.ci}})
