# Cityscapes, fine annotations: 2,975 train and 500 val pictures of 2048x1024. Resize and
# augmentation: mmsegmentation's cityscapes base (0.5-2.0 of (2048, 1024), one class at most 0.75 of
# the crop, flip, photometric distortion); crop 512x512 (VICRegL, appendix D.2).
data = dict(
    dataset='cityscapes',
    variant='fine',
    num_classes=19,
    ignore_index=255,
    resize=(2048, 1024),
    ratio_range=(0.5, 2.0),
    crop=(512, 512),
    cat_max_ratio=0.75,
    flip=0.5,
    test_resize=(2048, 1024))
