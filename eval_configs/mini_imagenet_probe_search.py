# Logistic regression on frozen features of Mini-ImageNet, its training searched for ("Scaling" VICReg, 4.1).
# Table 1's last row has test-time augmentation as well: --set data.views=five_crops.
# Nobody publishes a split within its classes: `train` and `val` are the data root's own (docs/data.md).
_base_ = ['_base_/probe_search.py']
protocol = dict(
    name='mini_imagenet_probe_search',
    version=1,
    kind='classification_search_probe',
    title='Searched linear classification of cached features, Mini-ImageNet',
    tables=[],
    source='Scaling VICReg, sections 3.2 and 4.1',
    cost='paper: features once (minutes on a GPU) and 50 trials; ci: the same features, four trials')
data = dict(dataset='mini_imagenet', variant='mini_imagenet')
