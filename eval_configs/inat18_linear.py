# Linear classification on frozen features, iNaturalist 2018 (VICReg, table 2 and appendix B.3).
_base_ = ['_base_/linear_transfer.py']
protocol = dict(
    name='inat18_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, iNaturalist 2018',
    tables=[],
    source='VICReg, table 2 and appendix B.3; crops of VISSL',
    cost='paper: GPU days; ci: about 5 minutes on 2 CPU cores')
data = dict(dataset='inat18', variant='inat18')
schedule = dict(epochs=84, steps=dict(epochs=[24, 48, 72], gamma=0.1))
sweep = dict(lrs=[0.005], seeds=3, run_seed=0, holdout=0.1)
# The `ci` profile: four epochs of smaller batches, on a thousand pictures.
profiles = dict(
    paper=dict(),
    ci=dict(schedule=dict(epochs=4, batch_size=64, steps=dict(epochs=[1, 2, 3]))))
