# What Mask R-CNN on a share of COCO's training pictures has of its own (VICRegL, table 10). The list was
# never published: a seeded hash of the image ids chooses (data/coco.py), its sha256 is in the record.
_base_ = ['coco.py', 'mask_rcnn.py']
protocol = dict(
    version=1,
    kind='detection_mask_rcnn_finetuned',
    only=['resnet', 'convnext', 'swin'],
    tables=[],
    source='ours, after VICRegL, table 10; mmdetection mask-rcnn_r50_fpn_1x_coco',
    cost='paper: a GPU week for three rates; ci: about 10 minutes on 2 CPU cores')
