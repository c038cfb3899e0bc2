# Logistic regression on frozen features of SUN397, its training searched for ("Scaling" VICReg, 4.1).
# Table 1's last row has test-time augmentation as well: --set data.views=five_crops.
# The first of the ten official partitions; the paper names none.
_base_ = ['_base_/probe_search.py']
protocol = dict(
    name='sun397_probe_search',
    version=1,
    kind='classification_search_probe',
    title='Searched linear classification of cached features, SUN397',
    tables=[],
    source='Scaling VICReg, sections 3.2 and 4.1',
    cost='paper: features once (minutes on a GPU) and 50 trials; ci: the same features, four trials')
data = dict(dataset='sun397', variant='sun397')
