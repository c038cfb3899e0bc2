# As coco_semi_maskrcnn, on 2 % of COCO's training pictures instead of 10 %; this share is ours.
_base_ = ['_base_/coco_semi.py']
protocol = dict(
    name='coco_semi_maskrcnn_2pct',
    title='Semi-supervised Mask R-CNN FPN, 2 % of COCO')
data = dict(variant='coco2017_2pct')
