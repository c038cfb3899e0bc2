# Linear evaluation on CUB-200-2011 ("Scaling" VICReg, section 4.1),
# by the numbers of ImageNet's (VICRegL, D.1).
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='cub200_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, CUB-200-2011',
    tables=[],
    source='VICRegL, appendix D.1, on the data of Scaling VICReg, section 4.1',
    cost='paper: GPU hours; ci: 4 epochs of batch 64')
data = dict(dataset='cub200', variant='cub200')
