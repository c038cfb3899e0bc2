# Linear evaluation on Food-101 (global-local self-distillation, table 3),
# by the numbers of ImageNet's (VICRegL, D.1).
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='food101_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, Food-101',
    tables=[],
    source='VICRegL, appendix D.1, on the data of global-local self-distillation, table 3',
    cost='paper: GPU hours; ci: 4 epochs of batch 64')
data = dict(dataset='food101', variant='food101')
