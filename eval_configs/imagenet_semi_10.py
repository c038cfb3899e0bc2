# Fine-tuning on 10 % of ImageNet's labels (VICReg, table 1, column "Semi-supervised").
_base_ = ['_base_/semi_224.py']
protocol = dict(
    name='imagenet_semi_10',
    version=1,
    kind='classification_finetuned',
    title='Semi-supervised classification, 10 % of ImageNet',
    tables=[],
    source='VICReg, table 1 and appendix B.2',
    cost='paper: GPU hours; ci: about 10 minutes on 2 CPU cores')
data = dict(dataset='imagenet', variant='imagenet_10pct')
classifier = {{_base_.ten_percent.classifier}}
sweep = {{_base_.ten_percent.sweep}}
profiles = dict(ci=dict(sweep=dict(lrs=[0.000625]), classifier=dict(lr=0.00625)))
