# Pascal VOC 2012 segmentation. Sizes and augmentation: mmsegmentation's pascal_voc12_aug base
# (resize 0.5-2.0 of (2048, 512), crop 512 with one class at most 0.75 of it, flip, photometric
# distortion). Train set: VOC12aug, 10,582 pictures; `voc12` is the plain 1,464.
data = dict(
    dataset='voc',
    variant='voc12aug',
    num_classes=21,
    ignore_index=255,
    resize=(2048, 512),
    ratio_range=(0.5, 2.0),
    crop=(512, 512),
    cat_max_ratio=0.75,
    flip=0.5,
    test_resize=(2048, 512))
