# Mask R-CNN R50-FPN on COCO, 1x (VICReg, table 2 and appendix B.3). Not in VICRegL's tables.
_base_ = ['_base_/coco.py', '_base_/mask_rcnn.py']
protocol = dict(
    name='coco_maskrcnn',
    version=1,
    kind='detection_mask_rcnn_finetuned',
    only=['resnet', 'convnext', 'swin'],
    title='Mask R-CNN FPN detection and instance segmentation, COCO, 1x',
    tables=[],
    source='VICReg, table 2 and appendix B.3; mmdetection mask-rcnn_r50_fpn_1x_coco',
    cost='paper: a GPU week for three rates; ci: about 10 minutes on 2 CPU cores')
