# The `ci` profile of VOC and ADE20k: minutes on two CPU cores, on a hundred pictures. Crop and test
# at 256 px, 60 iterations of batch 8; the poly schedule ends with the profile's iterations. The
# test scale is part of the profile: at short side 512 the same heads score several points less.
ci = dict(
    data=dict(resize=(1024, 256), crop=(256, 256), test_resize=(1024, 256)),
    schedule=dict(iters=60, batch_size=8))
