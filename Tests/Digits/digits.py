"""The data of the digits networks: scikit-learn's 1797 grey images of 8 x 8 pixels, float32 [n, 1, 8, 8] from 0 to 1.

Invariant: the split is fixed and stratified, and no held-out image occurs among the 1300 training images. Nothing here
but training sees labels of training images.
"""

import numpy as np
import onnxruntime

SEED = 20260229
HELD_OUT = 497
# Unlabelled training images that data-aware methods are given.
CALIBRATION = 512
# The brightest pixel of the source.
BRIGHTEST = 16


def split():
    """`(train images, train labels, held-out images, held-out labels)`. Nothing else here needs scikit-learn."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = (data.images[:, None] / BRIGHTEST).astype(np.float32)
    train, held_out, train_labels, labels = train_test_split(
        images, data.target, test_size=HELD_OUT, stratify=data.target, random_state=SEED
    )
    seen = {image.tobytes() for image in train}
    assert not any(image.tobytes() in seen for image in held_out)
    return train, train_labels, held_out, labels


def accuracy(path, images, labels):
    """Of an ONNX file. One thread, so that the same file gives the same number."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": images})
    return float((logits.argmax(1) == labels).mean())
