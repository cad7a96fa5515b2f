"""Networks that people fine-tune, by name, at four sides: each trains, or is one line."""

import pytest
import torch
from chain import tiny
from torch.nn import functional

from affectnet.errors import UserError
from affectnet.models.backbones.registry import ModelParams, backbone_of
from affectnet.models.layers import trunk_parameters
from affectnet.models.network import build

SHORT = (
    *("timm/swin_tiny_patch4_window7_224", "timm/fastvit_t8", "timm/inception_v4", "timm/levit_128s"),
    *("timm/tf_efficientnet_b0.ns_jft_in1k", "timm/hf-hub:timm/resnet18.a1_in1k", "timm/hf-hub:somebody/resnet18"),
    *("timm/resnet18.nonsense", "alexnet", "googlenet", "squeezenet1_0"),
)
"""One of each kind: a fixed side, none, a side too small, a cache of its own, tags, the hub, no linear head."""

OTHERS = (
    *("timm/mobilevit_xxs", "timm/mobilevitv2_050", "timm/efficientvit_b0", "timm/efficientvit_m0", "timm/tiny_vit_5m_224"),
    *("timm/nextvit_small", "timm/repvit_m0_9", "timm/davit_tiny", "timm/gcvit_xxtiny", "timm/swinv2_cr_tiny_224"),
    *("timm/beit_base_patch16_224", "timm/eva02_tiny_patch14_224", "timm/cait_xxs24_224", "timm/xcit_nano_12_p16_224"),
    *("timm/coatnet_nano_rw_224", "timm/maxvit_rmlp_nano_rw_256", "timm/mixer_s16_224", "timm/convnext_atto", "timm/resnet18"),
    *("timm/ghostnet_100", "timm/mobilenetv4_conv_small", "timm/tf_efficientnet_b0_ns", "timm/vgg16_bn", "timm/densenet121"),
    *("timm/edgenext_xx_small", "timm/pit_ti_224", "timm/crossvit_9_240", "timm/visformer_tiny", "timm/vit_tiny_patch16_224"),
    *("timm/deit3_small_patch16_224", "swin_t", "maxvit_t", "vit_b_16", "inception_v3", "densenet121", "mnasnet0_5"),
    *("shufflenet_v2_x0_5", "regnet_y_400mf"),
)

REFUSED_EVERYWHERE = {
    "googlenet": "auxiliary heads",
    "inception_v3": "auxiliary heads",
    "squeezenet1_0": "is not linear",
    "timm/hf-hub:somebody/resnet18": "described only on a hub",
    "timm/resnet18.nonsense": "nonsense",
}
REFUSED_AT = {
    ("timm/inception_v4", 32), ("timm/inception_v4", 64), ("alexnet", 32), ("timm/gcvit_xxtiny", 112), ("timm/coatnet_nano_rw_224", 112),
    ("timm/maxvit_rmlp_nano_rw_256", 112),
    *(("timm/crossvit_9_240", side) for side in (32, 64, 112, 224)), ("maxvit_t", 32), ("maxvit_t", 64), ("maxvit_t", 112),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(name, marks=pytest.mark.stress) for name in OTHERS)])
def test_each_name_takes_a_step_of_training_at_each_side_or_is_one_line(name: str) -> None:
    for side in (32, 64, 112, 224):
        entry = tiny(architecture=name, dropout=0.2, image_px=side)
        params = ModelParams.model_validate(entry)
        if name in REFUSED_EVERYWHERE or (name, side) in REFUSED_AT:
            with pytest.raises(UserError, match=REFUSED_EVERYWHERE.get(name, f"cannot take image_px {side}: ")) as caught:
                build(params, 8)
            assert "\n" not in str(caught.value)
            continue
        backbone, network = backbone_of(name), build(params, 8)
        answers = network(torch.randn(2, 3, side, side))
        functional.cross_entropy(answers, torch.tensor([0, 7])).backward()  # type: ignore[no-untyped-call]
        assert answers.shape == (2, 8) and trunk_parameters(network, backbone.head(network)) and len(backbone.layers(network)) > 1
