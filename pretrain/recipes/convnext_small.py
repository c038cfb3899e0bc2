# VICRegL, ConvNeXt-S: table 2. The ablations of tables 3 and 5 to 7 are its 100-epoch version.
_base_ = ["_base_/vicregl.py", "_base_/convnext.py"]
recipe = dict(
    name="convnext_small", title="VICRegL, ConvNeXt-S", source="VICRegL, section 3.3 and table 2"
)
