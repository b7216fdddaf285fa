"""The face renderer: determinism, what every Action Unit moves, landmarks, ranges, scene and camera."""

import dataclasses
import hashlib

import cv2
import numpy as np
import pytest

from actfer_env.data.synthetic.faces import (
    FIVE_POINTS,
    RENDERED_AUS,
    Background,
    Camera,
    Expression,
    Hand,
    Identity,
    Light,
    Person,
    Pose,
    Scene,
    Timing,
    is_detectable,
    render_face,
    render_scene,
    render_sequence,
)
from actfer_env.errors import DataError
from actfer_env.facs import CORE_AUS

SIZE = 256
WHO = Identity(seed=5, tone=3, hair_style="short")

# AU -> the part of the face that must change, as offsets in inter-ocular distances from the point between the
# eyes (left, top, right, bottom), and the part that must not.
BROW, EYES, NOSE, MOUTH = (
    (-1.0, -1.2, 1.0, -0.2),
    (-0.9, -0.4, 0.9, 0.4),
    (-0.5, -0.2, 0.5, 0.9),
    (-0.9, 0.5, 0.9, 2.0),
)
CHANGES = {
    1: (BROW, MOUTH), 2: (BROW, MOUTH), 4: (BROW, MOUTH), 5: (EYES, MOUTH), 6: (EYES, (-1, 1.1, 1, 2)),
    7: (EYES, MOUTH), 9: (NOSE, (-1, 1.5, 1, 2)), 10: (MOUTH, BROW), 12: (MOUTH, BROW), 14: (MOUTH, BROW),
    15: (MOUTH, BROW), 17: (MOUTH, BROW), 20: (MOUTH, BROW), 23: (MOUTH, BROW), 24: (MOUTH, BROW),
    25: (MOUTH, BROW), 26: (MOUTH, BROW), 43: (EYES, MOUTH),
}  # fmt: skip


def draw(face=None, who=WHO, size=SIZE, **kwargs):
    return render_face(who, face, size=size, **kwargs)


def change(face, base=None):
    """Return the absolute difference to the neutral face and the neutral landmarks."""
    base = base or draw()
    difference = np.abs(draw(face).image.astype(int) - base.image.astype(int)).max(axis=-1)
    return difference, base


def part(array, base, box):
    eyes = (np.array(base.landmarks["left_eye"]), np.array(base.landmarks["right_eye"]))
    unit, middle = np.linalg.norm(eyes[1] - eyes[0]), (eyes[0] + eyes[1]) / 2
    x0, y0 = (middle + np.array(box[:2]) * unit).astype(int)
    x1, y1 = (middle + np.array(box[2:]) * unit).astype(int)
    return array[max(y0, 0) : y1, max(x0, 0) : x1]


def test_every_core_au_is_drawn():
    assert set(CHANGES) == set(CORE_AUS) == set(RENDERED_AUS)


@pytest.mark.parametrize("au", CORE_AUS)
def test_au_moves_its_region_and_no_other(au):
    difference, base = change(Expression.both({au: 5}))
    where, elsewhere = CHANGES[au]
    assert (part(difference, base, where) > 16).mean() > 0.004
    assert (part(difference, base, elsewhere) > 6).mean() < 0.005


@pytest.mark.parametrize("au", CORE_AUS)
def test_au_grows_with_intensity(au):
    base = draw()
    levels = [float(change(Expression.both({au: value}), base)[0].sum()) for value in (1, 3, 5)]
    assert 0 < levels[0] < levels[1] < levels[2]


@pytest.mark.parametrize("au", [1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 20, 43])
def test_one_side_moves_alone(au):
    difference, base = change(Expression(left={au: 5}))
    middle = int(base.landmarks["nose"][0])
    near, far = difference[:, middle + 12 :].sum(), difference[:, : middle - 12].sum()
    assert near > 6 * far


def test_left_and_right_mirror():
    base = draw()
    left = change(Expression(left={12: 5}), base)[0].sum()
    right = change(Expression(right={12: 5}), base)[0].sum()
    assert 0.6 < left / right < 1.6


def test_same_arguments_same_bytes():
    face = Expression.both({1: 3, 12: 4, 25: 2})
    first, second = draw(face), draw(face)
    assert np.array_equal(first.image, second.image)
    assert first.landmarks == second.landmarks
    assert not np.array_equal(first.image, draw(face, who=dataclasses.replace(WHO, seed=6)).image)


def test_rendering_leaves_the_caches_alone():
    before = hashlib.sha256(draw().image.tobytes()).hexdigest()
    draw(Expression.both(dict.fromkeys((1, 2, 5, 26, 12), 5)))
    assert hashlib.sha256(draw().image.tobytes()).hexdigest() == before


def test_sampling_is_deterministic_and_varied():
    people = [Identity.sample(np.random.default_rng(i)) for i in range(60)]
    assert people == [Identity.sample(np.random.default_rng(i)) for i in range(60)]
    assert len(set(people)) == 60
    assert {who.tone for who in people} == set(range(10))
    assert len({who.hair_style for who in people}) >= 6


@pytest.mark.parametrize("size", [32, 96, 333, 512])
@pytest.mark.parametrize("pose", [Pose(), Pose(30, 15, 10), Pose(-30, -15, -25)])
def test_sizes_and_landmarks_inside(size, pose):
    face = draw(Expression.both({26: 5}), size=size, pose=pose)
    assert face.image.shape == (size, size, 3)
    assert face.image.dtype == np.uint8
    points = np.array(list(face.landmarks.values()))
    assert np.isfinite(points).all()
    assert (points >= 0).all() and (points < size).all()
    for name in FIVE_POINTS if size > 64 else ():
        x, y = face.landmarks[name]
        assert face.mask[round(y), round(x)] > 127


def test_landmarks_follow_the_pose():
    left, right = draw(pose=Pose(yaw=-25)), draw(pose=Pose(yaw=25))
    assert left.landmarks["nose"][0] < draw().landmarks["nose"][0] < right.landmarks["nose"][0]
    up, down = draw(pose=Pose(pitch=-15)), draw(pose=Pose(pitch=15))
    assert up.landmarks["nose"][1] < down.landmarks["nose"][1]


def test_landmarks_sit_on_what_is_drawn():
    """The darkest point near an eye landmark is the pupil."""
    who = dataclasses.replace(WHO, eye_colour=4)
    for pose in (Pose(), Pose(20, 5, 8), Pose(-20, -8, -12)):
        face = draw(who=who, size=512, pose=pose)
        for name in ("left_eye", "right_eye"):
            x, y = face.landmarks[name]
            patch = face.image[round(y) - 6 : round(y) + 7, round(x) - 8 : round(x) + 9].mean(axis=-1)
            rows, cols = np.nonzero(patch < np.percentile(patch, 12))
            assert np.hypot(cols.mean() - 8, rows.mean() - 6) < 3.5


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (lambda: Identity(tone=10), "tone"),
        (lambda: Identity(age=1.5), "age"),
        (lambda: Identity(hair_style="mohawk"), "hair_style"),
        (lambda: Identity(cloth=(1, 2)), "cloth"),
        (lambda: Identity(jaw=float("nan")), "jaw"),
        (lambda: Expression.both({12: 6}), "AU12"),
        (lambda: Expression.both({99: 1}), "AU99"),
        (lambda: Expression(gaze=(2, 0)), "gaze"),
        (lambda: Pose(yaw=50), "yaw"),
        (lambda: Pose(pitch=float("nan")), "pitch"),
        (lambda: Light(key=-1), "key"),
        (lambda: Hand(size=9), "size"),
        (lambda: Camera(jpeg=0), "jpeg"),
        (lambda: Camera(detail=2), "detail"),
        (lambda: Background(clutter=2), "clutter"),
        (lambda: Person(WHO, scale=1), "scale"),
        (lambda: Scene(width=8), "width"),
        (lambda: Timing(onset=9), "onset"),
        (lambda: render_sequence(Scene()), "person"),
        (lambda: render_face(WHO, size=1024), "size"),
    ],
)
def test_out_of_range_is_refused_in_one_line(build, word):
    with pytest.raises(DataError, match=word) as caught:
        build()
    assert "\n" not in str(caught.value)


def person(**kwargs):
    return Person(WHO, **{"x": 0.4, "y": 0.45, "scale": 50.0, **kwargs})


def scene(**kwargs):
    return Scene(**{"width": 320, "height": 288, "people": (person(),), **kwargs})


def test_scene_is_deterministic_and_true_to_size():
    first, second = render_scene(scene()), render_scene(scene())
    assert first.image.shape == (288, 320, 3)
    assert np.array_equal(first.image, second.image)
    assert first.faces == second.faces
    assert is_detectable(first.faces[0])


def test_scene_landmarks_scale_with_the_person():
    small = render_scene(scene(people=(person(scale=30),))).faces[0]
    large = render_scene(scene(people=(person(scale=60),))).faces[0]
    assert large.inter_ocular == pytest.approx(2 * small.inter_ocular, rel=0.01)
    assert np.abs(small.five().mean(axis=0) - large.five().mean(axis=0)).max() < 20


def test_points_at_rest_know_nothing_of_the_expression():
    pose, laugh = Pose(12, -5, 8), Expression.both({1: 5, 12: 5, 25: 5, 26: 5})
    calm, merry = (render_scene(Scene(people=(Person(WHO, face, pose),))).faces[0] for face in (Expression(), laugh))
    assert np.array_equal(calm.five(rest=True), merry.five(rest=True))
    assert calm.rest_box() == merry.rest_box() == calm.box
    assert np.array_equal(calm.five(rest=True), calm.five())
    assert not np.array_equal(merry.five(rest=True), merry.five())


@pytest.mark.parametrize(
    "camera", [Camera(detail=0.3), Camera(blur=3), Camera(noise=0.1), Camera(exposure=-2), Camera(jpeg=10)]
)
def test_optics_change_the_picture_and_not_the_truth(camera):
    plain, worse = render_scene(scene()), render_scene(scene(camera=camera))
    assert not np.array_equal(plain.image, worse.image)
    assert plain.faces[0].landmarks == worse.faces[0].landmarks


def test_low_detail_is_lower_native_scale():
    faces = [render_scene(scene(camera=Camera(detail=d))).faces[0] for d in (1.0, 0.3)]
    assert faces[1].native_scale < 0.4 * faces[0].native_scale
    assert faces[0].inter_ocular == faces[1].inter_ocular


def test_undetectable_faces_are_called_so():
    hand = Hand(x=0.0, y=0.7)
    cases = {
        "cut": scene(people=(person(x=0.0),)),
        "outside": scene(people=(person(x=1.5),)),
        "dark": scene(camera=Camera(exposure=-4), light=Light(key=0.1, ambient=0.1)),
        "tiny": scene(people=(person(scale=5),)),
        "covered": scene(people=(person(hand=hand),)),
        "blurred": scene(camera=Camera(blur=8)),
    }
    wrong = [name for name, case in cases.items() if is_detectable(render_scene(case).faces[0])]
    assert not wrong


def test_two_people_and_none():
    front, behind = person(x=0.45, scale=55), person(x=0.4, scale=40)
    faces = render_scene(scene(people=(behind, front))).faces
    assert faces[0].covered > 0.3 > faces[1].covered
    assert render_scene(scene(people=())).faces == ()


def test_camera_sampling_keeps_the_share_of_poor_pictures():
    rng = np.random.default_rng(0)
    poor = sum(Camera.sample(rng, 0.3).detail < 0.5 for _ in range(400))
    assert 80 < poor < 160


def test_sequence_rises_and_falls_and_repeats():
    happy = person(expression=Expression.both({1: 3, 12: 4}))
    timing = Timing(onset=1, apex=4, offset=8, length=9)
    film, again = (render_sequence(scene(people=(happy,)), timing) for _ in range(2))
    assert film.strengths[0] == film.strengths[-1] == 0
    assert film.strengths[4] == 1
    assert all(a <= b for a, b in zip(film.strengths[:4], film.strengths[1:5], strict=True))
    assert np.array_equal(film.frames[4].image, again.frames[4].image)
    assert film.flow.shape == (8, 288, 320, 2)
    assert not film.flow[0].any()


def test_flow_carries_each_frame_to_the_next():
    """Warping the apex back by the true flow comes closer to the frame before than not warping."""
    frown = person(expression=Expression.both({1: 5, 2: 5, 12: 3}), scale=70.0)
    clean = scene(people=(frown,), camera=Camera(noise=0, jpeg=100))
    film = render_sequence(clean, Timing(onset=0, apex=2, offset=4, length=5))
    before, after = (film.frames[i].image.astype(np.float32) for i in (1, 2))
    y, x = np.mgrid[0:288, 0:320].astype(np.float32)
    warped = cv2.remap(after, x + film.flow[1][..., 0], y + film.flow[1][..., 1], cv2.INTER_LINEAR)
    brow = np.zeros((288, 320), bool)
    top, bottom = (int(film.frames[0].faces[0].landmarks[n][1]) for n in ("forehead", "left_upper_lid"))
    brow[top + 8 : bottom - 6] = True
    where = brow & film.skin
    assert np.abs(warped - before)[where].mean() < 0.8 * np.abs(after - before)[where].mean()


def test_flow_moves_the_landmarks():
    smile = person(expression=Expression.both({1: 5, 2: 5}), scale=70.0)
    film = render_sequence(scene(people=(smile,)), Timing(onset=0, apex=2, offset=4, length=5))
    (x0, y0), (x1, y1) = (film.frames[i].faces[0].landmarks["left_inner_brow"] for i in (1, 2))
    flow = film.flow[1][round(y0), round(x0)]
    assert np.hypot(flow[0] - (x1 - x0), flow[1] - (y1 - y0)) < 0.5
    assert y1 < y0 - 1


def test_bytes_depend_on_neither_threads_nor_order():
    people = [Identity.sample(np.random.default_rng(i)) for i in range(6)]
    faces = [Expression.both({au: 3}) for au in (1, 6, 9, 15, 26, 43)]
    forward = [draw(face, who=who, size=128).image for who, face in zip(people, faces, strict=True)]
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        back = [draw(face, who=who, size=128).image for who, face in zip(people[::-1], faces[::-1], strict=True)]
    finally:
        cv2.setNumThreads(threads)
    assert all(np.array_equal(a, b) for a, b in zip(forward, back[::-1], strict=True))


def test_extreme_placements_render():
    rng = np.random.default_rng(3)
    for i in range(40):
        who = Identity.sample(np.random.default_rng(i))
        pose = Pose(*(float(v) for v in rng.uniform(-1, 1, 3) * [35, 25, 60]))
        x, y = (float(v) for v in rng.uniform(-0.5, 1.5, 2))
        hand = Hand(*(float(v) for v in rng.uniform(-2, 2, 2))) if i % 3 == 0 else None
        someone = Person(who, Expression.both({26: 5, 12: 3}), pose, x, y, float(rng.uniform(4, 160)), hand)
        width, height = (int(v) for v in rng.integers(48, 260, 2))
        result = render_scene(Scene(width, height, (someone,), camera=Camera.sample(rng)))
        assert result.image.shape == (height, width, 3)
        assert np.isfinite(result.faces[0].five()).all()
