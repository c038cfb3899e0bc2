# Linear evaluation on SUN397 ("Scaling" VICReg, section 4.1),
# by the numbers of ImageNet's (VICRegL, D.1).
# The first of the ten official partitions; the seed names none.
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='sun397_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, SUN397',
    tables=[],
    source='VICRegL, appendix D.1, on the data of Scaling VICReg, section 4.1',
    cost='paper: GPU hours; ci: 4 epochs of batch 64')
data = dict(dataset='sun397', variant='sun397')
