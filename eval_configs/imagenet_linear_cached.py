# Linear classification of ImageNet on cached features, by L-BFGS.
_base_ = ['_base_/linear_cached.py']
protocol = dict(
    name='imagenet_linear_cached',
    version=1,
    kind='classification_linear_probe',
    title='Linear classification of cached features, ImageNet',
    tables=[],
    source='after CLIP, appendix A.3, and DINOv2',
    cost='paper: GPU hours; ci: the same features, two fits')
data = dict(dataset='imagenet', variant='imagenet')
