"""Writes the golden cases of Table Transformer with live transformers, in f64 and f32:

- `04_detr/table_transformer_{detection,structure}`: the published sizes with timm's ResNet-18 and recipe weights;
- `13_checkpoints/hf_table_transformer_tiny`: a folder as `save_pretrained` writes it, and its outputs.

    python benches/peers/table_transformer_reference.py tests/golden

Needs torch, transformers, timm, numpy and safetensors. The recipe is that of tests/golden/README.md.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import ResNetConfig, TableTransformerConfig, TableTransformerForObjectDetection

MASK = (1 << 64) - 1
STRUCTURE = ["table", "table column", "table row", "table column header", "table projected row header", "table spanning cell"]
MODELS = [("detection", 15, STRUCTURE[:1] + ["table rotated"], 61), ("structure", 125, STRUCTURE, 62)]
SHARED = {"self_attn_layer_norm": "norm1", "fc1": "linear1", "fc2": "linear2"}
ENCODER = {**SHARED, "final_layer_norm": "norm2"}
DECODER = {**SHARED, "encoder_attn_layer_norm": "norm2", "final_layer_norm": "norm3", "encoder_attn": "multihead_attn"}


def stream(name, seed, count):
    state = 0xCBF29CE484222325
    for byte in name.encode():
        state = ((state ^ byte) * 0x100000001B3) & MASK
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(state ^ seed)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


def weight(name, shape, seed):
    if name.endswith("running_var"):
        offset, scale = 1.0, 0.5
    elif name.endswith("running_mean"):
        offset, scale = 0.0, 0.1
    elif len(shape) == 1 and name.endswith(".weight"):
        offset, scale = 1.0, 0.5
    elif len(shape) == 1:
        offset, scale = 0.0, 0.1
    elif name == "query_embed.weight":
        offset, scale = 0.0, 1.0
    else:
        offset, scale = 0.0, (3.0 / np.prod(shape[1:])) ** 0.5
    values = offset + scale * stream(name, seed, int(np.prod(shape)))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def wave(t):
    t = t - np.floor(t)
    return np.where(t < 0.5, 16 * t * (0.5 - t), -16 * (t - 0.5) * (1 - t))


def image(seed, h, w):
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    noise = stream("image", seed, 3 * h * w).reshape(3, h, w)
    planes = []
    for c in range(3):
        t1 = x * ((3 + c) / 128) + y * ((2 + c) / 256) + c / 8 + (seed % 16) / 16
        t2 = x * (1 / 64) - y * ((3 + 2 * c) / 128) + c / 4
        planes.append((0.9 * wave(t1) + 0.6 * wave(t2)) + 0.5 * noise[c])
    return torch.from_numpy(np.stack(planes).astype(np.float32))


def batch(seeds, sizes):
    """Images padded with zeros at the right and the bottom, and where they are (1) and are not (0)."""
    height, width = (max(side) for side in zip(*sizes))
    pixels, mask = torch.zeros(len(seeds), 3, height, width), torch.zeros(len(seeds), height, width, dtype=torch.long)
    for i, (seed, (h, w)) in enumerate(zip(seeds, sizes)):
        pixels[i, :, :h, :w], mask[i, :h, :w] = image(seed, h, w), 1
    return pixels, mask


def official(name):
    """The reference's name of one of transformers' tensors, with the third of a fused projection that it is."""
    heads = {"class_labels_classifier": "class_embed", "bbox_predictor": "bbox_embed"}
    first, _, rest = name.partition(".")
    if first in heads:
        return f"{heads[first]}.{rest}", None
    for theirs, ours in [
        ("backbone.conv_encoder.model.", "backbone.0.body."),
        ("input_projection.", "input_proj."),
        ("query_position_embeddings.", "query_embed."),
        ("encoder.layernorm.", "transformer.encoder.norm."),
        ("decoder.layernorm.", "transformer.decoder.norm."),
    ]:
        if rest.startswith(theirs):
            return ours + rest.removeprefix(theirs), None
    stack, layers, index, field, *last = rest.split(".")
    field = (ENCODER if stack == "encoder" else DECODER).get(field, field)
    start = f"transformer.{stack}.{layers}.{index}.{field}"
    if last[0] in ("q_proj", "k_proj", "v_proj"):
        return f"{start}.in_proj_{last[1]}", "qkv".index(last[0][0])
    return ".".join([start, *last]), None


def recipe(state, seed):
    """Recipe weights on the official names, for the tensors of a model of transformers."""
    out = {}
    for name, tensor in state.items():
        ours, third = official(name)
        shape = list(tensor.shape)
        if third is None:
            out[name] = weight(ours, shape, seed)
        else:
            whole = weight(ours, [3 * shape[0], *shape[1:]], seed)
            out[name] = whole[third * shape[0] : (third + 1) * shape[0]].clone()
    return out


def run(model, pixels, mask):
    with torch.no_grad():
        out = model(pixel_values=pixels, pixel_mask=mask)
    keys = ["logits", "pred_boxes", "last_hidden_state", "encoder_last_hidden_state"]
    return {key: getattr(out, key).double() for key in keys}


def outputs(model, seeds, sizes):
    """Numbers in f64, and facts of each tensor with its tolerance."""
    pixels, mask = batch(seeds, sizes)
    single = run(model.eval(), pixels, mask)
    double = run(model.double(), pixels.double(), mask)
    facts = {}
    for name, exact in double.items():
        error, largest = (single[name] - exact).abs().max().item(), exact.abs().max().item()
        facts[name] = {"shape": list(exact.shape), "f32_vs_f64_max": error, "atol": max(6 * error, 2e-6 * largest, 1e-7)}
    return {name: tensor.float().numpy() for name, tensor in double.items()}, facts


def write(path, case, tensors):
    Path(f"{path}.json").write_text(json.dumps(case, indent=1) + "\n")
    save_file(tensors, Path(f"{path}.safetensors"))


def main(folder):
    made = f"benches/peers/table_transformer_reference.py with transformers {transformers.__version__}, torch {torch.__version__}, f64 run"
    for kind, queries, names, seed in MODELS:
        labels = dict(enumerate(names))
        config = TableTransformerConfig(
            backbone="resnet18", use_pretrained_backbone=False, num_queries=queries, id2label=labels, label2id={n: i for i, n in labels.items()}
        )
        model = TableTransformerForObjectDetection(config)
        state = {name: t for name, t in model.state_dict().items() if "num_batches" not in name}
        model.load_state_dict(recipe(state, seed), strict=False)
        seeds, sizes = [10 * seed, 10 * seed + 1], [[192, 256], [224, 160]]
        tensors, facts = outputs(model, seeds, sizes)
        rename = {"logits": "pred_logits", "pred_boxes": "pred_boxes"}
        settings = {"preset": f"table-transformer-{kind}", "weight_seed": seed, "image_seeds": seeds, "sizes": sizes}
        case = {
            "what": f"Table Transformer ({kind}) end to end, TableTransformerForObjectDetection with timm's ResNet-18",
            "made": made, "config": settings, "tensors": {rename[k]: facts[k] for k in rename},
        }
        write(folder / "04_detr" / f"table_transformer_{kind}", case, {rename[k]: tensors[k] for k in rename})

    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], layer_type="basic", out_features=["stage4"])
    config = TableTransformerConfig(
        use_timm_backbone=False, backbone_config=resnet, num_queries=9, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=40,
        id2label=dict(enumerate(STRUCTURE)), label2id={name: i for i, name in enumerate(STRUCTURE)},
    )
    model = TableTransformerForObjectDetection(config)
    state = {name: t for name, t in model.state_dict().items() if "num_batches" not in name}
    model.load_state_dict({name: weight(name, list(t.shape), 63) for name, t in state.items()}, strict=False)
    place = folder / "13_checkpoints" / "hf_table_transformer_tiny"
    model.save_pretrained(place)
    seeds, sizes = [631, 632], [[96, 128], [80, 104]]
    tensors, facts = outputs(model, seeds, sizes)
    settings = {"image_seeds": seeds, "sizes": sizes, "files": ["config.json", "model.safetensors"], "pixel_mask": "1 = real pixel"}
    what = "TableTransformerForObjectDetection, a tiny folder as save_pretrained writes it"
    write(place.with_name(place.name + ".outputs"), {"what": what, "made": made, "config": settings, "tensors": facts}, tensors)


main(Path(sys.argv[1]))
