# Segmentation by retrieval, no training: Balazevic et al. 2023, "Towards In-Context Scene Understanding"
# (2306.01667): pictures of 512 x 512, a memory of 10,240,000 patches, 30 nearest by cosine, votes of
# softmax(cosine / 0.02), bilinear upsampling. How patches are drawn for the memory (rare classes first)
# is open-hummingbird-eval's. Ours: plain pictures instead of two epochs of augmented ones; the whole
# picture resized to the square; mIoU at the annotation's own size; the last map of ResNets at output
# stride 16, which gives them the 32 x 32 patches of the paper's ViTs.
backbone = dict(output_stride=16)
data = dict(side=512)
memory = dict(size=10240000)
knn = dict(ks=[30], temperature=0.02)
search = dict(queries=16384, vectors=16384)
sweep = dict(run_seed=0, holdout=0.1)
own_stride = dict(backbone=dict())
families = dict(convnext=own_stride, vit=own_stride, swin=own_stride)
profiles = dict(
    paper=dict(),
    ci=dict(data=dict(side=224), memory=dict(size=20000), search=dict(queries=2048)))
