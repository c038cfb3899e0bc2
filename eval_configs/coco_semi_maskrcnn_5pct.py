# As coco_semi_maskrcnn, on 5 % of COCO's training pictures instead of 10 %; this share is ours.
_base_ = ['_base_/coco_semi.py']
protocol = dict(
    name='coco_semi_maskrcnn_5pct',
    title='Semi-supervised Mask R-CNN FPN, 5 % of COCO')
data = dict(variant='coco2017_5pct')
