# Mask R-CNN R50-FPN on 10 % of COCO's training pictures (VICRegL, table 10). The list was never
# published: a seeded hash of the image ids chooses (data/coco.py), its sha256 is in the record.
_base_ = ['_base_/coco.py', '_base_/mask_rcnn.py']
protocol = dict(
    name='coco_semi_maskrcnn',
    version=1,
    kind='detection_mask_rcnn_finetuned',
    only=['resnet', 'convnext', 'swin'],
    title='Semi-supervised Mask R-CNN FPN, 10 % of COCO',
    tables=['10'],
    source='VICRegL, table 10; mmdetection mask-rcnn_r50_fpn_1x_coco',
    cost='paper: GPU days; ci: about 10 minutes on 2 CPU cores')
data = dict(variant='coco2017_10pct')
