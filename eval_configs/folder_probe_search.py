# Logistic regression on frozen features, its training searched for, on any pictures in class folders.
_base_ = ['_base_/probe_search.py']
protocol = dict(
    name='folder_probe_search',
    version=1,
    kind='classification_search_probe',
    title='Searched linear classification of cached features, class folders',
    tables=[],
    source='Scaling VICReg, section 3.2, on other data',
    cost='paper: by the data; ci: the same features, four trials')
data = dict(dataset='folder', variant='folder')
