# A server with its model inside, for places where a volume is a nuisance: Kubernetes, Vertex AI, air gaps.
#
#     docker build -f deploy/docker/model.Dockerfile --build-arg SERVER=detr-serve:cpu -t detr-shapes:0.1.0 assets/shapes
#
# The context is the folder of the model: model.json and model.safetensors, or files as the Hugging Face hub has them.

ARG SERVER=detr-serve:cpu
# The tag is in the argument.
# hadolint ignore=DL3006
FROM ${SERVER}
COPY . /models/
