# Linear evaluation on Mini-ImageNet ("Scaling" VICReg, section 4.1),
# by the numbers of ImageNet's (VICRegL, D.1).
# Nobody publishes a split within its classes: `train` and `val` are the data root's own (docs/data.md).
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='mini_imagenet_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, Mini-ImageNet',
    tables=[],
    source='VICRegL, appendix D.1, on the data of Scaling VICReg, section 4.1',
    cost='paper: GPU hours; ci: 4 epochs of batch 64')
data = dict(dataset='mini_imagenet', variant='mini_imagenet')
