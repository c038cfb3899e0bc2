# Linear frozen detection on Pascal VOC (VICRegL, table 9: "our linear frozen benchmark, that we adapt
# to produce bounding boxes"). The paper says no more and nobody has published code: all of this is
# ours. Trunk and its BatchNorm statistics are frozen, res5 included, which runs once over the whole
# picture (stride 16); every trainable part is linear: 1x1 convolutions for objectness and deltas of
# anchors, RoIAlign 7 x 7 averaged, one linear layer for classes and one for boxes. Each head has its
# own RPN, and so its own proposals. ConvNeXts: proposals on stage 3, regions on stage 4 resized to
# stride 16; ViTs: the last block for both.
_base_ = ['_base_/voc_boxes.py']
protocol = dict(
    name='voc_det_linear',
    version=1,
    kind='detection_linear_frozen',
    only=['resnet', 'convnext', 'vit'],
    title='Linear frozen detection, Pascal VOC',
    tables=['9'],
    source='VICRegL, table 9; the definition is ours',
    cost='paper: a GPU day; ci: about 15 minutes on 2 CPU cores')
schedule = dict(
    iters=24000,
    batch_size=16,
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4),
    steps=dict(milestones=(18000, 22000), gamma=0.1),
    warmup=dict(iters=100, start_factor=0.001))
backbone = dict(output_stride=16)
detector = dict(
    anchors=256,
    proposals_train=(2000, 1000),
    proposals_test=(6000, 1000),
    regions=512,
    score_threshold=0.05,
    nms_threshold=0.5,
    detections=100)
sweep = dict(lrs=[0.1, 0.05, 0.02, 0.01, 0.005], seeds=3, run_seed=0, holdout=0.1)
others = dict(backbone=dict())
families = dict(convnext=others, vit=others)
ci_detector = dict(proposals_train=(1000, 300), proposals_test=(1000, 300), regions=256)
ci_family = dict(detector=ci_detector, schedule=dict(warmup=dict(iters=10, start_factor=0.1)))
profiles = dict(
    paper=dict(),
    ci={{_base_.ci}},
    ci_resnet=ci_family,
    ci_convnext=ci_family,
    ci_vit=ci_family)
