# Correspondence of two views of any val pictures in class folders, frozen features.
_base_ = ['_base_/correspondence_224.py']
protocol = dict(
    name='folder_correspondence',
    version=1,
    kind='correspondence_probe',
    title='correspondence of views, class folders',
    tables=[],
    source='global-local self-distillation, section 4.7, on other data',
    cost='paper: six forwards of val; ci: two')
data = dict(dataset='folder', variant='folder')
