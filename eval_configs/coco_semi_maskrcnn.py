# Mask R-CNN R50-FPN on 10 % of COCO's training pictures (VICRegL, table 10).
_base_ = ['_base_/coco_semi.py']
protocol = dict(
    name='coco_semi_maskrcnn',
    title='Semi-supervised Mask R-CNN FPN, 10 % of COCO',
    tables=['10'],
    source='VICRegL, table 10; mmdetection mask-rcnn_r50_fpn_1x_coco')
data = dict(variant='coco2017_10pct')
