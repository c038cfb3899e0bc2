# COCO 2017 instances as mmdetection's `coco_instance` base has them: shorter side 800, longer side at
# most 1333, flip.
data = dict(
    dataset='coco',
    variant='coco2017',
    num_classes=80,
    short_sides=(800,),
    test_short_side=800,
    longest=1333,
    flip=0.5)
