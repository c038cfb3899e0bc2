# As coco_semi_maskrcnn, on 1 % of COCO's training pictures instead of 10 %; this share is ours.
_base_ = ['_base_/coco_semi.py']
protocol = dict(
    name='coco_semi_maskrcnn_1pct',
    title='Semi-supervised Mask R-CNN FPN, 1 % of COCO')
data = dict(variant='coco2017_1pct')
