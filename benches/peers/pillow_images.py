"""Compares our decoding and resizing of photographs with Pillow's.

    python benches/peers/pillow_images.py FOLDER...

Runs the example `dump_rgb` on every JPEG in the folders. Decoding is compared pixel by pixel; the
resize is compared with Pillow's of the pixels that we decoded. Needs Pillow and numpy.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def raw(path):
    width, height = map(int, path.name.split(".")[-2].split("x"))
    return np.fromfile(path, np.uint8).reshape(height, width, 3)


def main(folders):
    photos = sorted(photo for folder in folders for photo in Path(folder).rglob("*.jpg"))
    decode_max, decode_mean, resize_max = 0, 0.0, 0
    with tempfile.TemporaryDirectory() as out:
        command = ["cargo", "run", "--release", "--quiet", "-p", "detr-data", "--example", "dump_rgb", "--", out]
        subprocess.run(command + [str(photo) for photo in photos], check=True)
        for photo in photos:
            ours = raw(next(Path(out).glob(f"{photo.stem}.[0-9]*x*.rgb")))
            pillow = np.asarray(Image.open(photo).convert("RGB"))
            difference = np.abs(ours.astype(int) - pillow)
            decode_max = max(decode_max, difference.max())
            decode_mean = max(decode_mean, difference.mean())
            resized = raw(next(Path(out).glob(f"{photo.stem}.resized.*.rgb")))
            size = (resized.shape[1], resized.shape[0])
            pillow = np.asarray(Image.fromarray(ours).resize(size, Image.BILINEAR))
            resize_max = max(resize_max, np.abs(resized.astype(int) - pillow).max())
    print(f"{len(photos)} photographs: decoding differs by at most {decode_max} of 255, "
          f"{decode_mean:.3f} on average in the worst image; resizing by at most {resize_max}")


main(sys.argv[1:])
