# Linear evaluation on ImageNet (VICRegL, appendix D.1; tables 1 and 2, column "Linear Cls.").
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='imagenet_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, ImageNet',
    tables=['1', '2'],
    source='VICRegL, appendix D.1; VICReg, appendix B.2',
    cost='paper: GPU days; ci: about 5 minutes on 2 CPU cores')
data = dict(dataset='imagenet', variant='imagenet')
