"""The two tools of ActFER as an episode offers them (ActFER 3.1); what they do alone is in `align` and `zoom`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actfer_env import facs
from actfer_env.errors import LabelError
from actfer_env.tools.base import (
    DETECT_ALIGN,
    ZOOM_IN,
    RunningEpisode,
    Tool,
    ToolOutput,
    ViolationError,
    function_schema,
)
from actfer_env.tools.wire import UNITS, Wire
from actfer_env.tools.zoom import FRAMES, is_repeat, resolve

if TYPE_CHECKING:
    from actfer_env.rollout import ToolCall


class DetectAlign(Tool):
    """The tool detect_align: finds the face and aligns it; once in an episode."""

    name = DETECT_ALIGN
    reading = ("faces", "index", "score", "box", "regions")
    checked = True

    def schema(self, wire: Wire) -> dict[str, Any]:
        """Return the function schema; see `Tool`."""
        del wire
        what = "Find the face, bring it upright and to size, and get its four facial regions."
        return function_schema(self.name, what, {})

    def legal(self, episode: RunningEpisode) -> bool:
        """Tell whether the face has not been looked for yet."""
        return episode.detection == "not_called"

    def refuse(self, episode: RunningEpisode) -> ViolationError:
        """Return why there is nothing to look for."""
        if episode.detection == "prealigned":
            return ViolationError("the picture is an aligned face already", "illegal_order")
        return ViolationError(f"{self.name} was called already", "repeated_call")

    def run(self, episode: RunningEpisode, **arguments: Any) -> ToolOutput:
        """Align the sample's face."""
        del arguments
        alignment = episode.tools.alignment(episode.sample)
        if alignment is None:
            told = "No face was found. Answer from the whole picture."
            return ToolOutput(told, result={"faces": 0}, advise=False, searched=True)
        many, side = alignment.faces, episode.wire.face
        which = "one face" if many == 1 else f"face {alignment.index + 1} of {many} by size"
        shown = (episode.tools.face(episode.sample, alignment, side),) if side else ()
        return ToolOutput(f"Aligned {which}.", shown, result=alignment.to_dict(), searched=True, alignment=alignment)

    def tell(self, output: ToolOutput, wire: Wire) -> dict[str, Any]:
        """Return the boxes of the regions, None without a face."""
        if output.alignment is None:
            return {"regions": None}
        return {"regions": {name: wire.write(box) for name, box in output.alignment.regions.items()}}

    def guide(self, wire: Wire) -> str:
        """Return when to align."""
        del wire
        return (
            f"If you see a raw picture, call {self.name} once. It returns the upright face and the boxes of its four "
            f"regions: {', '.join(facs.REGIONS)}."
        )

    def describe(self, call: ToolCall) -> str:
        """Return how many faces there were."""
        faces = call.result.get("faces", 0)
        if faces > 1:
            return f"aligned one of {faces} faces (the largest)"
        return "aligned one face" if faces else "no face found"


class ZoomIn(Tool):
    """The tool zoom_in: magnified crops of regions or boxes of the aligned face."""

    name = ZOOM_IN
    looks_closer = True
    example: Mapping[str, Any] = {"regions": ["mouth-chin"]}
    checked = True

    def schema(self, wire: Wire) -> dict[str, Any]:
        """Return the function schema; see `Tool`."""
        most = UNITS[wire.coordinates][1]
        number = {"type": "number", "minimum": 0} | ({} if most is None else {"maximum": most})
        box = {"type": "array", "items": number, "minItems": 4, "maxItems": 4}
        some = {"minItems": 1, "maxItems": wire.max_zooms}
        return function_schema(self.name, "Magnify parts of the aligned face, by region names or by boxes.", {
            "regions": {"type": "array", "items": {"type": "string", "enum": list(facs.REGIONS)}, **some,
                        "description": "Names of facial regions to magnify."},
            "boxes": {"type": "array", "items": box, **some,
                      "description": f"Boxes [x1, y1, x2, y2] to magnify, {wire.words()}."},
            "image": {"type": "string", "enum": list(FRAMES),
                      "description": "The picture that the boxes refer to; the aligned face by default."},
        })  # fmt: skip

    def legal(self, episode: RunningEpisode) -> bool:
        """Tell whether there is a face, and a zoom is left."""
        return episode.alignment is not None and len(episode.crops) < episode.config.max_zooms

    def refuse(self, episode: RunningEpisode) -> ViolationError:
        """Return why no zoom is possible."""
        if episode.alignment is not None:
            return ViolationError(f"all {episode.config.max_zooms} zooms are used", "over_budget")
        if episode.detection == "failed":
            return ViolationError(f"{self.name} is impossible: no face was found", "illegal_order")
        why = f"{self.name} needs an aligned face, and {DETECT_ALIGN} was not called yet"
        return ViolationError(why, "illegal_order")

    def run(  # type: ignore[override]
        self, episode: RunningEpisode, regions: Any = None, boxes: Any = None, image: Any = "face"
    ) -> ToolOutput:
        """Draw the crops; none that was drawn before."""
        alignment, zoom = episode.alignment, episode.tools.zoom
        assert alignment is not None
        try:
            wanted = resolve(alignment, regions, boxes, image, zoom, episode.wire)
        except LabelError as error:
            raise ViolationError(str(error)) from error
        if len(wanted) > 1 or wanted[0][0] not in episode.legal_regions():
            new = [box for _, box in wanted]
            if len(new) > episode.zooms_left:
                why = f"{len(new)} zooms were asked for, {episode.zooms_left} are left"
                raise ViolationError(why, "over_budget")
            if any(is_repeat(box, [*episode.zoomed_boxes, *new[:i]], zoom) for i, box in enumerate(new)):
                raise ViolationError("this region or box was magnified already", "repeated_call")
        crops = tuple([episode.tools.crop(episode.sample, alignment, box, name) for name, box in wanted])
        return ToolOutput(
            f"Magnified {', '.join([crop.region or 'a box' for crop in crops])}.", tuple([c.image for c in crops]),
            tuple([crop.box for crop in crops]), {"crops": [crop.to_dict() for crop in crops]}, crops=crops,
        )  # fmt: skip

    def tell(self, output: ToolOutput, wire: Wire) -> dict[str, Any]:
        """Return the crops' regions and boxes."""
        return {"crops": [{"region": crop.region, "box": wire.write(crop.box)} for crop in output.crops]}

    def advice(self, regions: tuple[str, ...]) -> str:
        """Return the name with the regions that are left."""
        return f"{self.name} ({', '.join([*regions, 'or a new box'] if regions else ['a new box'])})"

    def hint(self, arguments: Any, wire: Wire) -> str:
        """Return how boxes are written."""
        frame = arguments.get("image") if isinstance(arguments, Mapping) else None
        return f" Boxes are [x1, y1, x2, y2], {wire.words(frame or 'face')}."

    def guide(self, wire: Wire) -> str:
        """Return when to zoom."""
        del wire
        return (
            f"If a region could decide between emotions and the face is too small to tell, call {self.name} for it. It "
            "magnifies the original picture, so it shows more only where the original holds more; a blurred or noisy "
            "picture stays so. If the face is clear enough, do not zoom."
        )

    def describe(self, call: ToolCall) -> str:
        """Return how many crops there were."""
        return f"{len(call.boxes)} crop{'' if len(call.boxes) == 1 else 's'}"
