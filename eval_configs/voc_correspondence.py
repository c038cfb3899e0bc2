# Correspondence of two views of Pascal VOC's val pictures of segmentation, frozen features.
_base_ = ['_base_/correspondence_224.py']
protocol = dict(
    name='voc_correspondence',
    version=1,
    kind='correspondence_probe',
    title='correspondence of views, Pascal VOC 2012',
    tables=[],
    source='global-local self-distillation, section 4.7, on other data',
    cost='paper: 1,449 pictures, GPU minutes; ci: the same, one draw')
data = dict(dataset='voc', variant='voc12')
