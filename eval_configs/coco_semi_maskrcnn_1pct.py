# As coco_semi_maskrcnn, on 1 % of COCO's training pictures instead of 10 %; this share is ours.
_base_ = ['_base_/coco.py', '_base_/mask_rcnn.py']
protocol = dict(
    name='coco_semi_maskrcnn_1pct',
    version=1,
    kind='detection_mask_rcnn_finetuned',
    only=['resnet', 'convnext', 'swin'],
    title='Semi-supervised Mask R-CNN FPN, 1 % of COCO',
    tables=[],
    source='VICRegL, table 10; mmdetection mask-rcnn_r50_fpn_1x_coco',
    cost='paper: GPU days; ci: about 10 minutes on 2 CPU cores')
data = dict(variant='coco2017_1pct')
