# Fine-tuned FCN segmentation on Pascal VOC (VICRegL, appendix A, table 8). ResNets alone: the paper
# has no other backbone here.
_base_ = ['_base_/voc12.py', '_base_/fcn.py', '_base_/ci_256.py']
protocol = dict(
    name='voc_fcn_ft',
    version=1,
    kind='segmentation_fcn_finetuned',
    only=['resnet'],
    title='Fine-tuned FCN segmentation, Pascal VOC',
    tables=['8'],
    source='VICRegL, appendix A (table 8); DenseCL; mmsegmentation FCN-R50-D8',
    cost='paper: GPU days; ci: about 15 minutes on 2 CPU cores')
# The `ci` profile: one rate, and more, smaller batches. At 0.05 the backbone does not survive the
# first iterations, at 0.01 the 3x3 heads learn nothing in 60 (mIoU 9.0 and 5.1, ImageNet weights).
profiles = dict(
    ci={{_base_.ci}},
    ci_resnet=dict(schedule=dict(iters=160, batch_size=4), sweep=dict(lrs=[0.02])))
