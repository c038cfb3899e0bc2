# ADE20k, SceneParsing benchmark: 20,210 train and 2,000 val pictures, 150 classes; "other" is
# neither trained nor scored. Sizes and augmentation: mmsegmentation's ade20k base (resize 0.5-2.0
# of (2048, 512), crop 512 with one class at most 0.75 of it, flip, photometric distortion).
data = dict(
    dataset='ade20k',
    variant='challenge2016',
    num_classes=150,
    ignore_index=255,
    resize=(2048, 512),
    ratio_range=(0.5, 2.0),
    crop=(512, 512),
    cat_max_ratio=0.75,
    flip=0.5,
    test_resize=(2048, 512))
