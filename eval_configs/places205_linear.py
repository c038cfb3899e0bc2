# Linear classification on frozen features, Places205 (VICReg, table 2 and appendix B.3).
_base_ = ['_base_/linear_transfer.py']
protocol = dict(
    name='places205_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, Places205',
    tables=[],
    source='VICReg, table 2 and appendix B.3; crops of VISSL',
    cost='paper: GPU days; ci: about 5 minutes on 2 CPU cores')
data = dict(dataset='places205', variant='places205')
schedule = dict(epochs=28, steps=dict(epochs=[4, 8, 12], gamma=0.1))
sweep = dict(lrs=[0.003], seeds=3, run_seed=0, holdout=0.1)
# The `ci` profile: four epochs of smaller batches, on a thousand pictures.
profiles = dict(
    paper=dict(),
    ci=dict(schedule=dict(epochs=4, batch_size=64, steps=dict(epochs=[1, 2, 3]))))
