# Linear evaluation on ImageNet-100 (global-local self-distillation, table 3),
# by the numbers of ImageNet's (VICRegL, D.1).
# The 100 classes of CMC's list (Tian et al. 2020); the seed does not say which it took.
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='imagenet100_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, ImageNet-100',
    tables=[],
    source='VICRegL, appendix D.1, on the data of global-local self-distillation, table 3',
    cost='paper: GPU hours; ci: 4 epochs of batch 64')
data = dict(dataset='imagenet100', variant='imagenet100')
