"""The architectures of the zoo, by name: how each is built, with what inputs it is exported, and by which exporters.

Every family that users bring is here at least once, as small as its code allows: structure matters, not size. Nothing
is downloaded. Vision networks come from torchvision, timm and vision.py, language and speech from language.py.
"""

import dataclasses
import functools
from typing import Callable

import torch
from torch import nn

import language
import vision

PIXELS = {"torchscript": 224, "dynamic": 96, "dynamo": 128}


@dataclasses.dataclass
class Architecture:
    """`inputs` gives example inputs for an exporter; `axes` says per input what the `dynamic` exporter leaves open;
    `fusion` is what ONNX Runtime's optimizer is told: kind of network, heads, width."""

    make: Callable[[], nn.Module]
    inputs: Callable[[str], tuple]
    exporters: tuple = ("torchscript",)
    axes: tuple = ({0: "batch"},)
    fusion: tuple = ()


BOTH = ("torchscript", "dynamo")
ALL = ("torchscript", "dynamic", "dynamo")
TEXT = {"exporters": ALL, "axes": ({0: "batch", 1: "sequence"},) * 2}
TRANSLATION = {"exporters": BOTH, "axes": ({0: "batch", 1: "source"}, {0: "batch", 1: "target"})}


def image(pixels=64):
    return lambda exporter: (torch.randn(1, 3, pixels, pixels),)


def original_size(exporter, own=None):
    pixels = (own or {}).get(exporter, PIXELS[exporter])
    return (torch.randn(1, 3, pixels, pixels),)


def full_size(models):
    """Torchvision's networks as they are, at their own size, by every exporter."""
    names = [
        "resnet18",
        "resnet50",
        "mobilenet_v2",
        "densenet121",
        "shufflenet_v2_x1_0",
        "squeezenet1_0",
        "resnext50_32x4d",
        "efficientnet_b0",
        "regnet_y_400mf",
        "mobilenet_v3_large",
    ]
    made = {name: (lambda name=name: getattr(models, name)(weights=None)) for name in names}
    made["googlenet"] = lambda: models.googlenet(weights=None, aux_logits=False, init_weights=False)
    made["unet"] = vision.UNet
    found = {name: Architecture(make, original_size, ALL) for name, make in made.items()}
    # Its pooling needs the size it was made for.
    vgg_size = lambda exporter: original_size(exporter, {"dynamic": 224})
    found["vgg11_bn"] = Architecture(lambda: vision.narrow_vgg(models), vgg_size, ALL)
    return found


def convolutional(models):
    from timm import create_model
    from timm.layers import GroupNormAct, StdConv2d
    from timm.models.resnetv2 import ResNetV2

    timm = lambda name, **settings: lambda: create_model(name, pretrained=False, num_classes=20, **settings)
    segmentation = {"weights": None, "weights_backbone": None, "num_classes": 5}
    return {
        "wide_resnet": Architecture(timm("wide_resnet50_2", layers=(1, 1, 1, 1), channels=(16, 32, 64, 96)), image()),
        "inception_v3": Architecture(
            lambda: models.inception_v3(weights=None, aux_logits=False, init_weights=False, num_classes=20), image(96)
        ),
        "mobilenet_v1": Architecture(vision.MobileNetV1, image(), ("torchscript", "quantized")),
        "mnasnet0_5": Architecture(lambda: models.mnasnet0_5(weights=None, num_classes=20), image()),
        "efficientnet_v2": Architecture(timm("tf_efficientnetv2_b0"), image()),
        "hrnet_w18_small": Architecture(timm("hrnet_w18_small"), image()),
        "dla46_c": Architecture(timm("dla46_c"), image()),
        "repvgg_a0": Architecture(timm("repvgg_a0"), image()),
        "ghostnet_050": Architecture(timm("ghostnet_050"), image()),
        "res2net": Architecture(timm("res2net50_26w_4s", layers=(1, 1, 1, 1), channels=(16, 32, 64, 96)), image()),
        "dpn48b": Architecture(timm("dpn48b"), image()),
        "cs3darknet_s": Architecture(timm("cs3darknet_s"), image()),
        "resnetv2_standardized": Architecture(
            lambda: ResNetV2(
                (1, 1, 1, 1),
                channels=(128, 128, 256, 256),
                num_classes=20,
                conv_layer=StdConv2d,
                norm_layer=functools.partial(GroupNormAct, num_groups=4),
            ),
            image(),
            BOTH,
        ),
        "resnet18_groupnorm": Architecture(timm("resnet18", norm_layer="groupnorm"), image()),
        "convnext_atto": Architecture(timm("convnext_atto"), image(), BOTH),
        "convnextv2_atto": Architecture(timm("convnextv2_atto"), image()),
        "fcn_resnet18": Architecture(lambda: vision.fcn(models), image(), BOTH),
        "deeplabv3_mobilenet": Architecture(
            lambda: vision.Only(models.segmentation.deeplabv3_mobilenet_v3_large(**segmentation)), image()
        ),
        "lraspp_mobilenet": Architecture(
            lambda: vision.Only(models.segmentation.lraspp_mobilenet_v3_large(**segmentation)), image()
        ),
        "yolo_c2f": Architecture(vision.Detector, image(), BOTH),
        "yolo_attention": Architecture(lambda: vision.Detector(attention=True), image()),
        "ssd_head": Architecture(vision.SSDHead, image(), BOTH),
    }


def vision_transformers(models):
    from timm import create_model
    from timm.models.metaformer import MetaFormer
    from timm.models.mlp_mixer import MlpMixer
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    timm = lambda name, **settings: lambda: create_model(name, pretrained=False, num_classes=20, **settings)
    small = {"img_size": 64, "depth": 3}
    windows = {"depths": (2, 2, 2), "embed_dim": 48, "num_heads": (2, 4, 8)}
    torchvision_windows = {"patch_size": [4, 4], "depths": [2, 2, 2], "embed_dim": 48, "num_heads": [2, 4, 8]}
    return {
        "vit_tiny": Architecture(
            timm("vit_tiny_patch16_224", **small), image(), (*ALL, "attention", "fused"), fusion=("vit", 3, 192)
        ),
        "vit_registers": Architecture(
            timm("vit_small_patch14_reg4_dinov2", img_size=56, depth=3, embed_dim=96, num_heads=3), image(56), BOTH
        ),
        "deit_tiny_distilled": Architecture(timm("deit_tiny_distilled_patch16_224", **small), image(), BOTH),
        "beit": Architecture(timm("beit_base_patch16_224", embed_dim=96, num_heads=3, **small), image()),
        "cait_xxs": Architecture(timm("cait_xxs24_224", **small), image()),
        "swin_tiny": Architecture(
            timm("swin_tiny_patch4_window7_224", img_size=112, **windows), image(112), BOTH
        ),
        "swin_torchvision": Architecture(
            lambda: models.SwinTransformer(window_size=[7, 7], num_classes=20, **torchvision_windows), image(112)
        ),
        "swinv2_tiny": Architecture(timm("swinv2_tiny_window8_256", img_size=128, **windows), image(128), BOTH),
        "swinv2_torchvision": Architecture(
            lambda: models.SwinTransformer(
                window_size=[8, 8],
                num_classes=20,
                block=SwinTransformerBlockV2,
                downsample_layer=PatchMergingV2,
                **torchvision_windows,
            ),
            image(128),
        ),
        "maxvit": Architecture(timm("maxvit_pico_rw_256", img_size=64), image()),
        "maxvit_torchvision": Architecture(
            lambda: models.MaxVit(
                input_size=(64, 64),
                stem_channels=16,
                block_channels=[16, 32],
                block_layers=[2, 2],
                head_dim=8,
                stochastic_depth_prob=0.0,
                partition_size=4,
                num_classes=20,
            ),
            image(),
        ),
        "coatnet_pico": Architecture(timm("coatnet_pico_rw_224", img_size=96), image(96)),
        "pvt_v1": Architecture(
            language.build(
                "PvtForImageClassification",
                "PvtConfig",
                ("pixel_values",),
                attention="eager",
                image_size=64,
                depths=[1, 1, 1, 1],
                hidden_sizes=[16, 32, 64, 96],
                num_attention_heads=[1, 2, 4, 6],
                mlp_ratios=[4, 4, 2, 2],
                num_labels=20,
            ),
            image(),
        ),
        "pvt_v2_b0": Architecture(timm("pvt_v2_b0"), image(), BOTH),
        "twins_pcpvt": Architecture(timm("twins_pcpvt_small", img_size=64, depths=(1, 1, 2, 1)), image()),
        "levit": Architecture(
            language.build(
                "LevitForImageClassification",
                "LevitConfig",
                ("pixel_values",),
                attention="eager",
                image_size=64,
                hidden_sizes=[64, 96, 128],
                num_attention_heads=[2, 3, 4],
                depths=[1, 1, 1],
                key_dim=[16, 16, 16],
                num_labels=20,
            ),
            image(),
            BOTH,
        ),
        "xcit_nano": Architecture(timm("xcit_nano_12_p16_224", **small), image()),
        "mixer": Architecture(
            lambda: MlpMixer(img_size=64, num_blocks=3, embed_dim=96, num_classes=20), image(), BOTH
        ),
        "poolformer": Architecture(
            lambda: MetaFormer(
                depths=(1, 1, 2, 1), dims=(32, 64, 96, 128), num_classes=20, mlp_act=nn.GELU, downsample_norm=None
            ),
            image(),
        ),
        "mobilevit_xxs": Architecture(timm("mobilevit_xxs"), image(), BOTH),
        "mobilevitv2_050": Architecture(timm("mobilevitv2_050"), image()),
        "efficientformer_l1": Architecture(timm("efficientformer_l1"), image(224)),
        "efficientvit_b0": Architecture(timm("efficientvit_b0"), image()),
        "edgenext_xx_small": Architecture(timm("edgenext_xx_small"), image()),
        "tnt_s": Architecture(timm("tnt_s_patch16_224", **small), image()),
        "hiera_tiny": Architecture(timm("hiera_tiny_224", stages=(1, 1, 2, 1), embed_dim=48), image(224)),
        "clip_vision": Architecture(
            language.build(
                "CLIPVisionModelWithProjection",
                "CLIPVisionConfig",
                ("pixel_values",),
                "image_embeds",
                projection_dim=64,
                hidden_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=256,
                **language.IMAGE,
            ),
            image(),
        ),
    }


def languages():
    build, tokens, width = language.build, language.tokens, language.WIDTH
    masked = ("input_ids", "attention_mask")
    both = ("input_ids", "decoder_input_ids")
    grouped = {"num_key_value_heads": 2, **width}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    speech = {"num_mel_bins": 20, "max_source_positions": 50, "max_target_positions": 32, **ends, **language.SEQ2SEQ}
    audio = lambda exporter: (torch.randn(1, 20, 100),)
    return {
        "bert": Architecture(
            build("BertForSequenceClassification", "BertConfig", masked, num_labels=5, **width),
            language.tokens_and_mask(),
            (*ALL, "attention"),
            TEXT["axes"],
        ),
        "bert_eager": Architecture(
            build("BertForMaskedLM", "BertConfig", masked, attention="eager", **width),
            language.tokens_and_mask(),
            (*BOTH, "fused"),
            fusion=("bert", 4, 128),
        ),
        "distilbert": Architecture(
            build(
                "DistilBertForSequenceClassification",
                "DistilBertConfig",
                vocab_size=300,
                dim=128,
                n_layers=2,
                n_heads=4,
                hidden_dim=256,
                max_position_embeddings=64,
            ),
            tokens(12),
        ),
        "deberta": Architecture(
            build(
                "DebertaV2ForSequenceClassification",
                "DebertaV2Config",
                attention="eager",
                relative_attention=True,
                pos_att_type=["p2c", "c2p"],
                position_buckets=16,
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                num_labels=5,
                **width,
            ),
            tokens(12),
        ),
        "gpt2": Architecture(
            build("GPT2LMHeadModel", "GPT2Config", vocab_size=300, n_embd=128, n_layer=2, n_head=4, n_positions=64),
            tokens(12),
            (*ALL, "fused"),
            TEXT["axes"],
            ("gpt2", 4, 128),
        ),
        "opt": Architecture(
            build(
                "OPTForCausalLM",
                "OPTConfig",
                vocab_size=300,
                hidden_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                ffn_dim=256,
                max_position_embeddings=64,
                word_embed_proj_dim=128,
            ),
            tokens(12),
        ),
        "llama": Architecture(
            build("LlamaForCausalLM", "LlamaConfig", attention="eager", tie_word_embeddings=True, **grouped),
            tokens(12),
            **TEXT,
        ),
        "llama_sdpa": Architecture(
            build("LlamaForCausalLM", "LlamaConfig", **grouped), tokens(12), ("dynamo", "attention")
        ),
        "llama_fused": Architecture(
            build("LlamaForCausalLM", "LlamaConfig", attention="eager", **grouped),
            tokens(12),
            ("fused",),
            fusion=("gpt2", 4, 128),
        ),
        "qwen3": Architecture(
            build("Qwen3ForCausalLM", "Qwen3Config", attention="eager", head_dim=32, **grouped), tokens(12)
        ),
        "gemma": Architecture(
            build(
                "GemmaForCausalLM",
                "GemmaConfig",
                attention="eager",
                head_dim=32,
                num_key_value_heads=1,
                **width,
            ),
            tokens(12),
        ),
        "phi": Architecture(build("PhiForCausalLM", "PhiConfig", **width), tokens(12)),
        "t5": Architecture(
            build("T5ForConditionalGeneration", "T5Config", both, decoder_start_token_id=0, **language.T5),
            tokens(12, 7),
            **TRANSLATION,
        ),
        "bart": Architecture(
            build(
                "BartForConditionalGeneration",
                "BartConfig",
                both,
                max_position_embeddings=64,
                **language.SEQ2SEQ,
            ),
            tokens(12, 7),
            **TRANSLATION,
        ),
        "whisper_encoder": Architecture(
            build(
                "WhisperModel",
                "WhisperConfig",
                ("input_features",),
                "last_hidden_state",
                part="encoder",
                decoder_start_token_id=1,
                **speech,
            ),
            audio,
            BOTH,
        ),
        "wav2vec2": Architecture(
            build(
                "Wav2Vec2ForSequenceClassification",
                "Wav2Vec2Config",
                ("input_values",),
                vocab_size=32,
                hidden_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=256,
                conv_dim=(32, 32, 32),
                conv_stride=(5, 2, 2),
                conv_kernel=(10, 3, 3),
                num_feat_extract_layers=3,
                num_conv_pos_embeddings=16,
                num_conv_pos_embedding_groups=4,
                num_labels=5,
            ),
            lambda exporter: (torch.randn(1, 800),),
        ),
        "torch_transformer": Architecture(
            language.EncoderDecoder,
            lambda exporter: (torch.randn(1, 9, 20), torch.randn(1, 5, 12)),
            ALL,
            ({0: "batch"}, {0: "batch"}),
        ),
        "lstm": Architecture(lambda: language.Recurrent("LSTM", True), tokens(12), BOTH, TEXT["axes"]),
        "gru": Architecture(lambda: language.Recurrent("GRU", False), tokens(12), axes=TEXT["axes"]),
    }


def architectures():
    models = vision.torchvision_models()
    return {**full_size(models), **convolutional(models), **vision_transformers(models), **languages()}
