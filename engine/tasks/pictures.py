"""Pictures of what a run does."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.drawing import fonts_for_names

SIDE = 160  # pixels of a sample picture, caption apart


def annotated(samples, dataset):
    """Sample pictures with what was predicted and, where that is wrong, what it is.

    samples: (image float [C, H, W], label, probabilities [classes]) as `evaluate` keeps them. Returns
    {tag: uint8 [H, W, 3]}.
    """
    from matplotlib.font_manager import findfont

    font = ImageFont.truetype(findfont(fonts_for_names()[:2][-1]), 11)  # the first that has Chinese, if there is one
    pictures = {}
    for number, (image, label, probabilities) in enumerate(samples):
        guess = int(np.argmax(probabilities))
        caption = f"{guess} {dataset.classes[guess]}, {100 * probabilities[guess]:.0f} %"
        if guess != label:
            caption += f"\nis {int(label)} {dataset.classes[int(label)]}"
        shown = image.min(), max(float(np.ptp(image)), 1e-6)
        pixels = np.uint8(255 * (image - shown[0]) / shown[1]).transpose(1, 2, 0)
        picture = Image.fromarray(pixels if pixels.shape[2] == 3 else np.repeat(pixels[:, :, :1], 3, axis=2))
        sheet = Image.new("RGB", (SIDE, SIDE + 30), "white" if guess == label else "mistyrose")
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.NEAREST))
        ImageDraw.Draw(sheet).multiline_text((3, SIDE + 1), caption, fill="black", font=font, spacing=1)
        pictures[f"eval/sample_{number}"] = np.asarray(sheet)
    return pictures
