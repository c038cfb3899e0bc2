# The `ci` profile of Cityscapes, as ci_256.py: pictures of 512x256, whole in training and in test.
ci = dict(
    data=dict(resize=(512, 256), crop=(256, 256), test_resize=(512, 256)),
    schedule=dict(iters=60, batch_size=8))
