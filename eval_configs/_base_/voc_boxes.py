# Pascal VOC detection as detectron2's and MoCo's configs have it: trainval of 2007 and 2012 (16,551
# pictures), tested on test2007 (4,952); shorter side one of 480, 512, ... 800 in training and 800
# in test, longer side at most 1333, flip.
data = dict(
    dataset='voc_boxes',
    variant='voc0712',
    num_classes=20,
    short_sides=tuple(range(480, 801, 32)),
    test_short_side=800,
    longest=1333,
    flip=0.5)
# The `ci` profile: a hundred pictures at about their half size.
ci = dict(
    data=dict(variant='voc07', short_sides=(224, 256, 288), test_short_side=256, longest=448),
    schedule=dict(iters=60, batch_size=4, steps=dict(milestones=(45, 55))))
