"""The JavaScript of the slice viewer, run in Chromium, against vectors that Python writes."""

import json
import re

import display
import heat
import matplotlib as mpl
import numpy as np
import pytest
import scene
import slice_viewer
from scipy import ndimage

from medkd.geometry import VoxelGrid
from medkd.io.heat_maps import HeatMap
from medkd.review import place_words
from medkd.review.priors import Alignment, start_offset_mm
from tests.viewer.oblique import build_scan, turn

pytestmark = pytest.mark.slow

NAMES = (
    "fillLookUp", "dragWindow", "extractPlane", "slabRange", "mapPoint", "toPicture",
    "fromPicture", "nearestVoxel", "sectionRadius", "distanceMm", "scaleBarMm", "loadOrder",
    "Decisions", "startOffset", "pairedIndex", "perpendicularAxis", "halvedAxis", "measureAxes",
    "imageWords", "sliceWords", "shortPlace", "reportLine", "heatColors", "sampleHeat", "findLive",
)  # fmt: skip


@pytest.fixture
def js(browser):
    """Return a function that runs an expression with the viewer's functions and vectors `v`."""
    page = browser.new_page()
    script = f"{slice_viewer.script_text()}\nwindow.twin = {{{', '.join(NAMES)}}};"
    page.add_script_tag(type="module", content=script)
    page.wait_for_function("window.twin")

    def run(expression, vectors=None):
        body = f"(text) => {{ const v = JSON.parse(text); const {{{', '.join(NAMES)}}} = twin; "
        return page.evaluate(body + f"return ({expression}); }}", json.dumps(vectors))

    return run


def build_stack(pose="supine", *, oblique=True):
    scan = build_scan("s", pose=pose, oblique=oblique)
    return display.build_axial_stack(scan.voxels_hu, scan.grid)


def layers(stack, plane):
    """Return every picture of a plane as numpy cuts it: [number, row, column]."""
    if plane.name == "axial":
        return stack.voxels_hu.transpose(2, 1, 0)
    order = (1, 2, 0) if plane.name == "coronal" else (0, 2, 1)
    return stack.voxels_hu.transpose(order)[:, ::-1]  # the head is at the top


def plane_data(stack):
    return {
        "voxels": np.frombuffer(stack.slab(0, stack.slices), dtype="<i2").tolist(),
        "shape": list(stack.grid.shape),
        "planes": scene.describe_planes(stack),
    }


@pytest.mark.parametrize("window", [*display.WINDOWS.values(), display.Window(-13.0, 1.0)])
@pytest.mark.parametrize("inverted", [False, True])
def test_the_look_up_table_is_the_same(js, window, inverted):
    found = js(
        "Array.from(fillLookUp(new Uint32Array(65536), v.center, v.width, v.inverted))",
        {"center": window.center_hu, "width": window.width_hu, "inverted": inverted},
    )
    colors = np.roll(np.array(found, dtype=np.uint32), 32768)  # the bits of -32768 come last
    grey = display.build_look_up(window, inverted=inverted).astype(np.uint32)
    np.testing.assert_array_equal(colors, 0xFF000000 | grey << 16 | grey << 8 | grey)


@pytest.mark.parametrize("pose", ["supine", "feet first"])
def test_planes_are_cut_as_numpy_cuts_them(js, pose):
    stack = build_stack(pose)
    numbers = [(place, n) for place in range(3) for n in (0, 11, 29)]
    found = js(
        """v.numbers.map(([place, n]) => Array.from(extractPlane(Int16Array.from(v.voxels), v.shape,
           v.planes[place], n, {mode: "single", layers: 1})))""",
        plane_data(stack) | {"numbers": numbers},
    )
    for (place, number), values in zip(numbers, found, strict=True):
        expected = layers(stack, display.PLANES[place])[number]
        np.testing.assert_array_equal(np.array(values), expected.ravel())


@pytest.mark.parametrize(
    ("number", "count", "low", "high"),
    # Layers around the middle one; with an even number one more below; cut at the ends (there are
    # 30 axial slices).
    [(10, 5, 8, 12), (10, 4, 8, 11), (0, 5, 0, 2), (29, 5, 27, 31)],
)
def test_a_slab_shows_the_maximum_or_the_mean_of_its_layers(js, number, count, low, high):
    stack = build_stack()
    found = js(
        """["max", "mean"].map((mode) => v.planes.map((plane) => Array.from(extractPlane(
           Int16Array.from(v.voxels), v.shape, plane, v.number, {mode, layers: v.count}))))""",
        plane_data(stack) | {"number": number, "count": count},
    )
    for place, plane in enumerate(display.PLANES):
        slab = layers(stack, plane)[low : high + 1].astype(float)
        np.testing.assert_array_equal(found[0][place], slab.max(axis=0).ravel())
        np.testing.assert_array_equal(found[1][place], np.floor(slab.mean(axis=0) + 0.5).ravel())


@pytest.mark.parametrize("pose", ["supine", "prone", "feet first", "slices reversed"])
def test_indices_are_converted_to_millimetres_as_the_grid_does(js, pose):
    stack = build_stack(pose)
    points = np.random.default_rng(0).uniform(-5, 60, (20, 3))
    vectors = scene.describe_stack(stack) | {"points": points.tolist()}
    mm = js("v.points.map((p) => mapPoint(v.affine, p))", vectors)
    np.testing.assert_allclose(mm, stack.grid.voxel_to_world(points), atol=1e-9)


def test_picture_places_and_indices_are_inverse_and_show_the_voxel_of_the_plane(js):
    stack = build_stack()
    points = np.random.default_rng(1).integers(0, 30, (10, 3))
    found = js(
        """v.points.map((p) => v.planes.map((plane) => {
           const {column, row} = toPicture(plane, v.shape, p);
           return [column, row, fromPicture(plane, v.shape, column, row, p[plane.through])]; }))""",
        plane_data(stack) | {"points": points.tolist()},
    )
    for point, shown in zip(points, found, strict=True):
        for plane, (column, row, index) in zip(display.PLANES, shown, strict=True):
            assert index == point.tolist()
            pixel = layers(stack, plane)[point[plane.through], row, column]
            assert pixel == stack.voxels_hu[tuple(point)]


def test_the_cut_of_a_sphere_shrinks_away_from_its_middle(js):
    # Radius 5 mm, 3 mm from the centre: sqrt(25 - 9) = 4 mm. A small sphere between two thick
    # slices is never lost: 2.4 mm is within half of 5 mm.
    cases = [[10, 3, 1], [10, 5.5, 1], [10, 0, 1], [3, 2.4, 5], [3, -2.4, 5], [3, 2.6, 5]]
    found = js("v.map(([d, z, s]) => sectionRadius(d, z, s))", cases)
    assert found == pytest.approx([4, 0, 5, 1.5, 1.5, 0])


def test_a_length_is_measured_in_millimetres_of_each_axis(js):
    # (3, 4, 12) mm: 13 mm.
    assert js("distanceMm([0.5, 2, 3], [1, 1, 1], [7, 3, 5])") == pytest.approx(13.0)


def test_two_scans_are_aligned_and_paired_as_in_python(js):
    here, there = build_stack(), build_stack("feet first")
    boxes = Alignment("lungs", ((-40, 0, 5), (20, 60, 250)), ((-30, 10, 0), (50, 60, 0)))
    points = np.random.default_rng(2).uniform(-60, 300, (20, 3))
    offsets = [start_offset_mm(tuple(point), boxes) for point in points.tolist()]
    vectors = {
        "here": np.transpose(boxes.here).tolist(),
        "there": np.transpose(boxes.there).tolist(),
        "affine": scene.describe_stack(here)["affine"],
        "inverse": np.linalg.inv(there.grid.affine_lps_mm)[:3].tolist(),
        "points": points.tolist(),
    }
    found = js("v.points.map((p) => startOffset(p, v.here, v.there))", vectors)
    np.testing.assert_allclose(found, offsets)
    found = js("v.points.map((p) => pairedIndex(v.affine, v.inverse, [3, -4, 5], p))", vectors)
    place_mm = np.add(here.grid.voxel_to_world(points), (3, -4, 5))
    np.testing.assert_allclose(found, there.grid.world_to_voxel(place_mm), atol=1e-9)


def random_axes(count=20):
    """Yield long axes in one plane each, and two more indices in the same plane."""
    rng = np.random.default_rng(5)
    for number in range(count):
        plane = display.PLANES[number % 3]
        ends = rng.uniform(2, 25, (4, 3))
        ends[:, plane.through] = ends[0, plane.through]
        yield ends


def length_mm(stack, axis):
    """Return the length of an axis in LPS mm."""
    ends = stack.grid.voxel_to_world([axis["from"], axis["to"]])
    return float(np.linalg.norm(ends[1] - ends[0]))


def test_the_short_axis_is_held_perpendicular_to_the_long_one_in_millimetres(js):
    stack = build_stack()
    cases = [ends.tolist() for ends in random_axes()]
    found = js(
        """v.cases.map(([from, to, one, other]) => {
             const long = {from, to};
             return [perpendicularAxis(v.spacing, long, one, other),
                     halvedAxis(v.spacing, long, one)]; })""",
        scene.describe_stack(stack) | {"cases": cases},
    )
    for (start, end, one, other), (dragged, halved) in zip(cases, found, strict=True):
        start, end, one, other = stack.grid.voxel_to_world([start, end, one, other])
        along = (end - start) / np.linalg.norm(end - start)
        np.testing.assert_allclose(stack.grid.voxel_to_world(dragged["from"]), one, atol=1e-9)
        moved = stack.grid.voxel_to_world(dragged["to"]) - one
        expected = (other - one) - along * ((other - one) @ along)
        np.testing.assert_allclose(moved, expected, atol=1e-9)
        # The clicked end is as far from the long axis as the other end, on both sides of it.
        ends = stack.grid.voxel_to_world([halved["from"], halved["to"]])
        foot = start + along * np.clip((one - start) @ along, 0, np.linalg.norm(end - start))
        np.testing.assert_allclose(ends.mean(axis=0), foot, atol=1e-9)
        away = np.linalg.norm((one - start) - along * ((one - start) @ along))
        assert length_mm(stack, halved) == pytest.approx(2 * away)
        assert abs((ends[1] - ends[0]) @ along) < 1e-9


def test_both_axes_and_their_mean_are_rounded_to_a_tenth_of_a_millimetre(js):
    stack = build_stack()
    cases = [ends.tolist() for ends in random_axes()]
    found = js(
        """v.cases.map(([a, b, c, d]) => {
             const long = {from: a, to: b}, short = perpendicularAxis(v.spacing, long, c, d);
             return [measureAxes(v.spacing, long, short), long, short]; })""",
        scene.describe_stack(stack) | {"cases": cases},
    )
    for measured, *axes in found:
        tenths = sorted(int(np.floor(length_mm(stack, axis) * 10 + 0.5)) for axis in axes)
        mean = (sum(tenths) + 1) // 2  # halves upwards
        assert measured == {"long": tenths[1] / 10, "short": tenths[0] / 10, "mean": mean / 10}


def test_the_mean_of_8_1_and_5_2_mm_is_6_7_mm(js):
    # (8.1 + 5.2) / 2 = 6.65 mm, rounded upwards. The first axis is the shorter one.
    found = js(
        """measureAxes([1, 1, 1], {from: [0, 0, 0], to: [5.2, 0, 0]},
                       {from: [0, 0, 0], to: [0, 8.1, 0]})"""
    )
    assert found == {"long": 8.1, "short": 5.2, "mean": 6.7}


def test_the_line_for_the_pacs_is_that_of_the_page(js):
    images = {"axis": 2, "words": ["", "image 107"]}
    cases = [
        ("right lung, lower third", [3, 4, 1], 7.31), ("outside the lungs", [3, 4, 0], 6.25),
        ("", None, None), ("left lung, upper third", [0, 0, 1], None),
    ]  # fmt: skip
    found = js(
        """v.cases.map(([place, voxel, mm]) => [shortPlace(place), reportLine(place,
             sliceWords(v.images, voxel), {diameter: mm ?? 10, assumed: mm === null})])""",
        {"cases": cases, "images": images},
    )
    for (place, voxel, mm), line in zip(cases, found, strict=True):
        number = voxel[2] if voxel else None
        image = images["words"][number] if voxel else ""
        slice_number = 0 if voxel is None else number + 1
        expected = place_words.report_line(place, slice_number, image=image, diameter_mm=mm)
        assert line == [place_words.short_place(place), expected]


def test_only_the_plane_of_the_series_names_its_images(js):
    found = js("[[v, 2, 1], [v, 0, 1], [null, 2, 1]].map((a) => imageWords(...a))",
               {"axis": 2, "words": ["image 7", "image 8"]})  # fmt: skip
    assert found == ["image 8", "", ""]


def test_a_place_outside_the_scan_has_no_voxel(js):
    found = js(
        "v.map((p) => nearestVoxel([4, 5, 6], p))", [[-0.4, 4.4, 2], [-0.6, 0, 0], [0, 0, 6]]
    )
    assert found == [[0, 4, 2], None, None]


def test_a_scale_bar_has_a_round_length_that_fits(js):
    assert js("[7, 49, 50, 199, 0.3].map(scaleBarMm)") == pytest.approx([5, 20, 50, 100, 0.2])


def test_the_slab_that_the_reader_waits_for_is_loaded_first(js):
    assert js("loadOrder(6, 4)") == [4, 3, 5, 2, 1, 0]


def test_dragging_right_widens_the_window_and_down_raises_its_centre(js):
    found = js(
        "[[30, 0], [0, 30], [-9999, 0]].map(([x, y]) => dragWindow({center: 40, width: 300}, x, y))"
    )
    assert found == [
        {"center": 40, "width": 330}, {"center": 70, "width": 300}, {"center": 40, "width": 1},
    ]  # fmt: skip


def test_decisions_are_sent_again_until_they_are_answered(js):
    found = js(
        """(() => { const sent = []; const d = new Decisions((list) => sent.push(list.list));
           d.decide("a", "accept"); d.decide("b", "reject");
           d.answer({client: d.client, number: 1}); d.answer({client: "other", number: 9});
           d.decide("a", "reject");
           return [sent, d.pending("a"), d.pending("c"), d.waiting.length]; })()"""
    )
    lists, pending_a, pending_c, waiting = found
    assert [[action["number"] for action in sent] for sent in lists] == [[1], [1, 2], [2, 3]]
    assert (pending_a, pending_c, waiting) == (True, False, 2)
    assert lists[0] == [{"number": 1, "kind": "verdict", "mark": "a", "verdict": "accept"}]


def test_undo_takes_back_what_waits_and_then_the_rows_of_the_store(js):
    found = js(
        """(() => { const d = new Decisions(() => {});
           const rows = [{row: 7, mark: "c"}, {row: 9, mark: "case"}];
           d.decide("a", "accept"); d.decide("b", "accept");
           const undone = [1, 2, 3, 4, 5].map(() => d.undo(rows));
           return [undone, d.waiting.slice(2).map(({undone, row}) => [undone ?? 0, row ?? 0])];
        })()"""
    )
    assert found == [["b", "a", "case", "c", None], [[2, 0], [1, 0], [0, 9], [0, 7]]]


def test_undo_does_not_take_back_again_what_became_a_row_meanwhile(js):
    found = js(
        """(() => { const d = new Decisions(() => {});
           d.decide("a", "accept"); d.decide("b", "accept"); d.undo([]);
           d.answer({client: d.client, number: 2, rows: {1: 7, 2: 9}});
           const rows = [{row: 7, mark: "a"}, {row: 9, mark: "b"}];
           const undone = [d.undo(rows), d.undo(rows)];
           return [undone, d.waiting.map(({row}) => row ?? 0)]; })()"""
    )
    assert found == [["a", None], [9, 7]]


def test_what_waits_is_shown_as_if_it_were_saved(js):
    ring = {"id": "a", "group": "mark", "verdict": "undecided", "center": [1, 2, 3], "diameter": 5}
    found = js(
        """(() => { const d = new Decisions(() => {});
           d.decide("a", "accept"); d.resize("a", 6); d.move("a", [4, 5, 6], [0, 0, 0]);
           const kept = d.add([7, 8, 9], [1, 1, 1], 12.5), gone = d.add([1, 1, 1], [1, 1, 1], 3);
           d.decide(gone, "undecided"); d.decide("a", "reject"); d.undo([]);
           return [kept, d.applyTo([v])]; })()""",
        ring,
    )
    kept, (mark, added) = found
    assert (mark["verdict"], mark["diameter"], mark["center"]) == ("accept", 6, [4, 5, 6])
    assert (added["id"], added["group"], added["diameter"]) == (kept, "added", 12.5)
    assert re.fullmatch("added_[0-9a-f]{16}", kept)


def test_the_script_contains_no_import_and_one_export():
    text = slice_viewer.script_text()
    assert "import {" not in text
    assert text.count("\nexport ") == 1
    assert set(slice_viewer.SCRIPTS) == {p.stem for p in (slice_viewer.FOLDER / "js").iterdir()}


def test_the_viewer_loads_nothing_from_elsewhere_and_writes_no_html():
    text = slice_viewer.script_text() + (slice_viewer.FOLDER / "viewer.html").read_text()
    for word in ("http:", "https:", "innerHTML", "insertAdjacentHTML", "eval(", "document.write"):
        assert word not in text


def test_the_colours_of_heat_maps_are_those_of_inferno_and_low_values_are_clear(js):
    colors = np.array(js("Array.from(heatColors())"), dtype=np.int64)
    shown = np.stack([colors >> bits & 255 for bits in (0, 8, 16)], axis=1)
    inferno = np.round(mpl.colormaps["inferno"](np.arange(256))[:, :3] * 255)
    assert np.abs(shown - inferno).max() <= 7
    alpha = colors >> 24 & 255
    assert (alpha[:14] == 0).all()
    assert (np.diff(alpha) >= 0).all()
    assert (alpha[64:] == 255).all()


@pytest.mark.parametrize("pose", ["supine", "feet first"])
def test_a_heat_map_is_interpolated_where_its_turned_grid_says(js, pose):
    stack = build_stack(pose)
    direction = turn(25.0, 1) @ stack.grid.direction
    cells = VoxelGrid.from_parts(
        (14, 12, 18), spacing_mm=(3, 4, 5), direction=direction,
        origin_mm=stack.grid.voxel_to_world((5, 4, 3)),
    )  # fmt: skip
    values = np.random.default_rng(0).integers(0, 256, cells.shape).astype(np.uint8)
    shown = heat.ShownMap(HeatMap(values, cells, "probability"), "id")
    vectors = {
        "values": list(shown.slab(0, 1)),
        "shape": list(cells.shape),
        "matrix": heat.index_matrix(stack, cells).tolist(),
        "stack": list(stack.grid.shape),
        "planes": scene.describe_planes(stack),
    }
    found = js(
        """v.planes.map((plane) => { const values = Uint8Array.from(v.values);
           const map = {...v, values, live: findLive(values, v.shape)};
           return Array.from(sampleHeat(map, plane, v.stack, [11], {across: 1, down: 1})); })""",
        vectors,
    )
    for plane, sampled in zip(display.PLANES, found, strict=True):
        index = np.indices(stack.grid.shape).astype(float)
        at = np.take(index, [11], axis=plane.through + 1).reshape(3, -1).T
        places = cells.world_to_voxel(stack.grid.voxel_to_world(at))
        expected = ndimage.map_coordinates(values.astype(float), places.T, order=1, mode="nearest")
        expected[~cells.contains_world(stack.grid.voxel_to_world(at))] = 0.0
        sizes = [stack.grid.shape[axis] for axis in range(3) if axis != plane.through]
        picture = expected.reshape(sizes).T[:: -1 if plane.upward else 1]
        apart = np.abs(np.array(sampled) - picture.ravel())
        assert np.quantile(apart, 0.995) < 1.0  # bytes; at the outer faces a side may differ
        assert picture.max() > 200
