#!/usr/bin/env python3
"""Serves the shapes model with FastAPI and PyTorch, as `detr serve` does: POST /detect with a picture as the body.

    python benches/peers/serve_fastapi.py --port 8090

The model is transformers' Deformable DETR with the sizes of assets/shapes/model.json and random weights, which take the
same time as trained ones. Pictures are resized, normalised and post-processed by transformers' image processor. One
thread computes, with as many threads below it as there are cores. Needs fastapi, uvicorn, torch, transformers and pillow.
"""

import argparse
import io
import threading

import torch
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from transformers import (
    DeformableDetrConfig,
    DeformableDetrForObjectDetection,
    DeformableDetrImageProcessor,
    ResNetConfig,
)


def model_of():
    backbone = ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage3", "stage4"],
    )
    config = DeformableDetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=backbone,
        num_labels=6,
        num_queries=50,
        d_model=64,
        num_feature_levels=3,
        encoder_layers=2,
        decoder_layers=3,
        encoder_ffn_dim=256,
        decoder_ffn_dim=256,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        with_box_refine=True,
        dropout=0.0,
    )
    torch.manual_seed(0)
    return DeformableDetrForObjectDetection(config).eval()


model = model_of()
processor = DeformableDetrImageProcessor(size={"shortest_edge": 128, "longest_edge": 160})
one_at_a_time = threading.Lock()
app = FastAPI()


def detect(body, threshold):
    try:
        picture = Image.open(io.BytesIO(body)).convert("RGB")
    except OSError as error:
        raise HTTPException(400, str(error)) from error
    with one_at_a_time, torch.inference_mode():
        outputs = model(**processor(picture, return_tensors="pt"))
    found = processor.post_process_object_detection(outputs, threshold, [picture.size[::-1]])[0]
    rows = zip(found["scores"].tolist(), found["labels"].tolist(), found["boxes"].tolist())
    return [{"score": score, "label": label, "box": box} for score, label, box in rows]


@app.post("/detect")
async def route(request: Request, threshold: float = 0.5):
    body = await request.body()
    return await run_in_threadpool(detect, body, threshold)


@app.get("/ping")
async def ping():
    return "ok"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    uvicorn.run(app, port=args.port, log_level="warning")
