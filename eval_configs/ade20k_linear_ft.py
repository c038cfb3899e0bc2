# Fine-tuned linear segmentation on ADE20k, 160k iterations. Ours: appendix D.2 of VICRegL gives the
# fine-tuned grid of ConvNeXts and ViTs for all data sets, but no table has this column, and no
# ResNet is on ADE20k; those as on VOC.
_base_ = ['_base_/ade20k.py', '_base_/linear_ft.py', '_base_/ci_256.py']
protocol = dict(
    name='ade20k_linear_ft',
    version=1,
    kind='segmentation_linear_finetuned',
    title='Fine-tuned linear segmentation, ADE20k',
    tables=[],
    source='ours, after VICRegL, appendix D.2; mmsegmentation 160k schedule',
    cost='paper: GPU weeks; ci: about 20 minutes on 2 CPU cores')
schedule = dict(iters=160000)
long = dict(schedule=dict(iters=160000))
families = dict(convnext=long, vit=long, swin=long)
profiles = dict(ci={{_base_.ci}})
