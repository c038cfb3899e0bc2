# The linear evaluation of ImageNet on any pictures in class folders.
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='folder_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, class folders',
    tables=[],
    source='VICRegL, appendix D.1, on other data',
    cost='paper: by the data; ci: about 5 minutes on 2 CPU cores')
data = dict(dataset='folder', variant='folder')
