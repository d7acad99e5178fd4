"""COCO's files of annotations and labelme's folders. tests/test_data_coco_broken.py has more of single values."""

import base64
import io
import json

from PIL import Image

from hostile.files import ESCAPES, link, of_data, pipe, png, png_of, sparse, written

COCO = "{name: coco, root: FOLDER, train: TRAIN, validation: null, resize_short: 9, resize_long: 12}"
BOX = {"bbox": [2, 1, 4, 3], "segmentation": [[2, 1, 6, 1, 6, 4, 2, 4]], "iscrowd": 0, "area": 12}
WIDE = {"width": 12, "height": 12}


def document(number=4):
    return {
        "images": [{"id": n, "file_name": f"{n}.png", **WIDE} for n in range(number)],
        "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "cat"}],
        "annotations": [{"id": n, "image_id": n, "category_id": 1 + n % 2, **BOX} for n in range(number)],
    }


def text(content, tool="check_data.py", train="train.json"):
    """This text as the file of annotations; its pictures lie beside it."""

    def make(folder):
        for n in range(4):
            written(folder / f"{n}.png", png(n))
        written(folder / "train.json", content)
        return of_data(folder, COCO.replace("TRAIN", train), tool)

    return make


def changed(change, tool="check_data.py"):
    """A whole file, of which `change(document)` changes something."""
    content = document()
    change(content)
    return text(json.dumps(content), tool)


def put(kind, at, **values):
    return changed(lambda content: content[kind][at].update(values))


def there(make):
    """`make(path)` in the place of the file."""

    def case(folder):
        command = text("")(folder)
        (folder / "train.json").unlink()
        make(folder / "train.json")
        return command

    return case


def labelme(shape=None, **values):
    """A folder of labelme's with one picture, and one shape."""
    whole = {"label": "cup", "shape_type": "polygon", "points": [[2, 1], [6, 1], [6, 4]], "group_id": None}
    content = {"imagePath": "0.png", **WHOLE, "shapes": [{**whole, **(shape or {})}], **values}

    def make(folder):
        for n in range(4):
            written(folder / "notes" / f"{n}.png", png(n))
            plain = {**content, "imagePath": f"{n}.png", "shapes": [whole], **WHOLE} if n else content
            written(folder / "notes" / f"{n}.json", json.dumps(plain))
        return of_data(folder, COCO.replace("TRAIN", "notes"))

    return make


def stamp(size=(2, 2)):
    content = io.BytesIO()
    Image.new("L", size, 255).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def mask(**values):
    return {"shape_type": "mask", "points": [[1, 1], [2, 2]], **values}


WHOLE = {"imageHeight": 12, "imageWidth": 12}
CASES = {
    "an empty file": (text(""), r"train\.json: is no JSON"),
    "no JSON": (text("{'a': 1}"), r"train\.json: is no JSON: .*line 1 column 2"),
    "cut short": (text(json.dumps(document())[:400]), r"train\.json: is no JSON"),
    "two values": (text("{}{}"), r"train\.json: is no JSON: Extra data"),
    "lists in each other": (text("[" * 100_000), r"train\.json: is no JSON that can be read: RecursionError"),
    "objects in each other": (text('{"a":' * 100_000), r"is no JSON that can be read: RecursionError"),
    "many digits": (text('{"images": ' + "9" * 10_000 + "}"), r"is no JSON that can be read: ValueError"),
    "bytes of no text": (text(b'{"images": "\xff"}'), r"is no JSON in UTF-8: byte 12"),
    "UTF-16": (text(json.dumps(document()).encode("utf-16")), r"is no JSON in UTF-8"),
    "NULs": (text(bytes(1000)), r"is no JSON"),
    "a zip": (text(b"PK\3\4" + bytes(100)), r"is no JSON"),
    "a list of results": (text('[{"image_id": 1}]'), r"is a list, as a file of results is"),
    "nothing in it": (text("{}"), r"has no 'images'"),
    "a text": (text('"x"'), r"got 'x', wanted an object"),
    "NaN": (text("NaN"), r"got NaN, wanted an object"),
    "an escape for a key": (text(json.dumps({ESCAPES: 1})), r"has no 'images'; it has '\\x1b"),
    "a key of 100,000 letters": (text(json.dumps({"k" * 100_000: 1})), r"has no 'images'; it has 'k+' …"),
    "a pipe": (there(pipe), r"train\.json: is a pipe"),
    "a device": (there(lambda path: link(path, "/dev/zero")), r"train\.json: is a device"),
    "a link to itself": (there(lambda path: link(path, "train.json")), r"train\.json: Too many levels"),
    "a file of 1 TB": (there(lambda path: sparse(path, 10**12)), r"train\.json: has more than the 4,294,967,296 bytes"),
    "no file": (there(lambda path: None), r"train\.json: no such file"),
    "a name too long": (text("", train="x" * 256), r"data\.train: x+….*too long"),
    "paths too long together": (text("", train="t/" * 1400 + "x"), r"no such file|too long"),
    "a name with an escape": (text("", train=f'"{ESCAPES.encode("unicode_escape").decode()}"'), r"\\x1b.*no such file"),
    "images that are a number": (changed(lambda content: content.update(images=7)), r"images: got 7, wanted a list"),
    "10,000 wrong entries": (
        changed(lambda content: content.update(images=[1] * 10_000)), r"images\[0\]: got 1, wanted",
    ),
    "a picture elsewhere": (put("images", 1, file_name="../../../etc/hostname.png"), r"images\[1\]: no picture "),
    "a picture's name of 300 letters": (put("images", 0, file_name="x" * 300), r"images\[0\]: no picture 'x+' …"),
    "a picture's name of 100,000 letters": (
        put("images", 1, file_name="x" * 10**5), r"images\[1\]: no picture .*x+ … x",
    ),
    "a picture's name with an escape": (put("images", 0, file_name=ESCAPES), r"no picture '\\x1b"),
    "a picture's name with a NUL": (put("images", 2, file_name="a\0b"), r"images\[2\]: 'a\\x00b': no file can have"),
    "a picture's name of half a letter": (
        put("images", 0, file_name="\udcff"), r"images\[0\]: file_name: got .*a text",
    ),
    "a picture of no width": (put("images", 0, width=0), r"images\[0\]: width: got 0"),
    "a picture of 10^30 pixels": (put("images", 0, width=10**30), r"images\[0\]: width: got 1000"),
    "a picture of another size": (
        changed(lambda content: content["images"][0].update(width=10**9), "write_coco.py"),
        r"0\.png: has 12 x 12 pixels.*its annotations are of 1000000000 x 12",
    ),
    "a class with an escape": (put("categories", 0, name=ESCAPES), r"categories\[0\]: the class name '\\x1b"),
    "a class that turns": (put("categories", 0, name="\u202epuc"), r"categories\[0\]: the class name '\\u202epuc'"),
    "a class of nothing": (put("categories", 1, name="\t"), r"categories\[1\]: name: got '\\t', wanted a text"),
    "two classes of one name": (put("categories", 1, name="cup"), r"name 'cup' is that of categories\[0\]"),
    "an id that is a list": (put("annotations", 2, image_id=[1]), r"annotations\[2\]: image_id: got \[1\]"),
    "an id of 10^400": (put("annotations", 2, category_id=10**400), r"annotations\[2\]: category_id: got 1000"),
    "a box below 0": (put("annotations", 1, bbox=[1, 1, -5, 3]), r"annotations\[1\]: bbox: got \[1, 1, -5, 3\]"),
    "a box of objects": (put("annotations", 1, bbox=[{}, [], None, "x"]), r"annotations\[1\]: bbox: got"),
    "a box beyond floats": (put("annotations", 1, bbox=[10**400, 0, 1, 1]), r"annotations\[1\]: bbox: got"),
    "a polygon of words": (put("annotations", 0, segmentation=[["a"] * 6]), r"annotations\[0\]: segmentation\[0\]"),
    "run lengths beyond": (
        put("annotations", 0, segmentation={"size": [12, 12], "counts": [0, 10**18]}), r"counts: a run of 1000",
    ),
    "run lengths of another picture": (
        put("annotations", 0, segmentation={"size": [10**6, 10**6], "counts": [10**12]}),
        r"size: got \[1000000, 1000000\]",
    ),
    "run lengths of letters": (
        put("annotations", 0, segmentation={"size": [12, 12], "counts": "é" * 50}), r"letters that stand for no run",
    ),
    "run lengths that are an object": (
        put("annotations", 0, segmentation={"size": [12, 12], "counts": {}}), r"counts: got \{\}, wanted",
    ),
    "no object anywhere": (changed(lambda content: content.update(annotations=[])), r"none of its pictures has an obj"),
    "crowds alone": (
        changed(lambda content: [each.update(iscrowd=1) for each in content["annotations"]]),
        r"all annotations have isc",
    ),
    "labelme: a kind that is a list": (
        labelme({"shape_type": ["mask"]}), r"0\.json: shapes\[0\]: shape_type: got \[\"mask",
    ),
    "labelme: a kind of none": (labelme({"shape_type": "line"}), r"shape_type: got 'line', wanted polygon, rect"),
    "labelme: points of words": (labelme({"points": [["a", "b"]] * 3}), r"shapes\[0\]: points: got"),
    "labelme: two points": (labelme({"points": [[1, 1], [2, 2]]}), r"polygon of 2 points, wanted 3 or more"),
    "labelme: no label": (labelme({"label": None}), r"shapes\[0\]: label: is missing or null"),
    "labelme: shapes that are none": (labelme(shapes={"a": 1}), r"0\.json: shapes: got .*wanted a list"),
    "labelme: a picture of 10^12 pixels": (
        labelme(mask(mask=stamp()), imageHeight=10**6, imageWidth=10**6),
        r"shapes\[0\]: mask: of a picture of 1000000 x 1",
    ),
    "labelme: a picture of 10^30 pixels": (
        labelme(mask(mask=stamp()), imageHeight=10**15, imageWidth=10**15), r"shapes\[0\]: mask: of a picture of",
    ),
    "labelme: a mask that reaches out": (
        labelme(mask(mask=stamp((99, 99)))), r"mask: of 99 x 99 pixels, reaches out of",
    ),
    "labelme: a mask of 10^9 pixels": (
        labelme(mask(mask=base64.b64encode(png_of(40_000, 25_000)).decode())), r"reaches out of its picture",
    ),
    "labelme: a mask far outside": (
        labelme(mask(mask=stamp(), points=[[10**15, 10**15], [2e15, 2e15]])), r"reaches out of its picture",
    ),
    "labelme: a mask that is no PNG": (labelme(mask(mask="R0lGODlh")), r"mask: wanted a PNG in base64"),
    "labelme: a mask that is no text": (labelme(mask(mask={"a": 1})), r"mask: wanted a PNG in base64"),
    "labelme: one group of a mask": (
        labelme(shapes=[{"label": "c", "group_id": 1, **mask(mask=stamp())}] * 2),
        r"shapes\[0\]: shares its group_id",
    ),
    "labelme: a picture elsewhere": (
        labelme(imagePath="/etc/none.png"), r"0\.json: no picture '(\.\./)+etc/none\.png'",
    ),
    "labelme: a side of 0": (labelme(imageHeight=0), r"0\.json: imageHeight: got 0"),
}
