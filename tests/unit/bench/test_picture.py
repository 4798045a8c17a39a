"""The curves as a picture."""

from xml.etree import ElementTree as ET

from bench.picture import draw

SVG = "{http://www.w3.org/2000/svg}"


def test_every_curve_is_drawn_and_named() -> None:
    picture = ET.fromstring(draw("a & b", {"create": [(10, 0.002), (10_000, 0.0021)], "LVM <old>": [(10, 0.4)]}))  # noqa: S314 - our own
    assert len(picture.findall(f"{SVG}polyline")) == 2
    assert len(picture.findall(f"{SVG}circle")) == 3
    assert {"a & b", "create", "LVM <old>"} <= {text.text for text in picture.findall(f"{SVG}text")}


def test_more_volumes_are_further_right_and_more_time_is_further_up() -> None:
    picture = ET.fromstring(draw("", {"create": [(10, 0.001), (1000, 0.1)]}))  # noqa: S314 - our own
    (curve,) = picture.findall(f"{SVG}polyline")
    (x1, y1), (x2, y2) = ((float(each) for each in place.split(",")) for place in curve.attrib["points"].split())
    assert x1 < x2
    assert y1 > y2


def test_a_single_point_is_drawn() -> None:
    assert "polyline" in draw("", {"create": [(10, 0.01)]})
