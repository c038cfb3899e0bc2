# A small Faster R-CNN C4 for test_openmmlab: CKPT is filled in there.
model = dict(
    type="FasterRCNN",
    data_preprocessor=dict(type="DetDataPreprocessor"),
    backbone=dict(type="BenchBackbone", ckpt="CKPT", stages=3, out_indices=(2,), frozen=False),
    rpn_head=dict(
        type="RPNHead",
        in_channels=64,
        feat_channels=16,
        anchor_generator=dict(type="AnchorGenerator", scales=[2, 4], ratios=[1.0], strides=[16]),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True),
        loss_bbox=dict(type="L1Loss"),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        shared_head=dict(type="BenchRes5", ckpt="CKPT"),
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            out_channels=64,
            featmap_strides=[16],
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0, use_torchvision=True),
        ),
        bbox_head=dict(
            type="BBoxHead",
            with_avg_pool=True,
            in_channels=128,
            roi_feat_size=7,
            num_classes=3,
            bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
            loss_cls=dict(type="CrossEntropyLoss"),
            loss_bbox=dict(type="L1Loss"),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
            sampler=dict(type="RandomSampler", num=16, pos_fraction=0.5, add_gt_as_proposals=False),
            allowed_border=-1,
            pos_weight=-1,
        ),
        rpn_proposal=dict(nms_pre=50, max_per_img=20, nms=dict(type="nms", iou_threshold=0.7)),
        rcnn=dict(
            assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5),
            sampler=dict(type="RandomSampler", num=16, pos_fraction=0.25),
            pos_weight=-1,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=50, max_per_img=20, nms=dict(type="nms", iou_threshold=0.7)),
        rcnn=dict(score_thr=0.0, nms=dict(type="nms", iou_threshold=0.5), max_per_img=10),
    ),
)
