# Frozen FCN segmentation on Pascal VOC (VICRegL, table 8).
_base_ = ['_base_/voc12.py', '_base_/fcn.py', '_base_/ci_256.py']
protocol = dict(
    name='voc_fcn',
    version=1,
    kind='segmentation_fcn_frozen',
    only=['resnet'],
    title='Frozen FCN segmentation, Pascal VOC',
    tables=['8'],
    source='VICRegL, section 4.3 and table 8; DenseCL; mmsegmentation FCN-R50-D8',
    cost='paper: GPU days; ci: about 10 minutes on 2 CPU cores')
profiles = dict(ci={{_base_.ci}})
