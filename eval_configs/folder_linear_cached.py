# Linear classification on cached features of any pictures in class folders.
_base_ = ['_base_/linear_cached.py']
protocol = dict(
    name='folder_linear_cached',
    version=1,
    kind='classification_linear_probe',
    title='Linear classification of cached features, class folders',
    tables=[],
    source='after CLIP, appendix A.3, and DINOv2',
    cost='paper: by the data; ci: the same features, two fits')
data = dict(dataset='folder', variant='folder')
