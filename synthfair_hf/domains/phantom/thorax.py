"""A procedural frontal thorax: what the beam crosses between the tube and the detector.

    L(x, y) = MU_SOFT (T_soft - T_air) + MU_BONE density T_bone      T: path lengths in cm, MU: attenuation per cm
    image   = -log(exp(-L) + scatter) / LATITUDE, in [0, 1]     logarithmic detector: air black, bone white

`anatomy.measure` gives the lengths of a body, the shapes below turn them into path lengths, and overlaps add up as they
do on a radiograph. Coordinates are in cm on a field of 37 cm: x grows to the patient's left (the right of the image), y
grows downward, (0, 0) is the middle of the image.
"""

from collections.abc import Mapping

import numpy as np

from ..drawn import spline
from .anatomy import ANATOMY, Array, Body

__all__ = ["FIELD", "TEXTURE_SHAPE", "Thorax"]

FIELD = 37.0
"""Side of the image in cm."""

MU_SOFT, MU_BONE = 0.19, 0.45
"""Attenuation per cm of soft tissue, and of bone in excess of it, near 100 kVp."""

AIR = 0.86
"""Share of the lung's depth that is air."""

LATITUDE = 3.6
"""Optical depth that the detector shows as white."""

TEXTURE_SHAPE = (4, 20, 20)
"""Coefficients of the smooth random fields of a subject: vessel warp (2), lesion texture, lung texture."""


def _chord(squared: Array) -> Array:
    """Half the chord of a unit circle or ellipsoid at a squared distance from its centre."""
    return np.sqrt(np.maximum(1 - squared, 0))


def _tube(distance: Array, radius: float, core: float = 0.72) -> Array:
    """Path length through a hollow bone: a dense cortex around a core that is half marrow."""
    squared = (distance / radius) ** 2
    return 2 * radius * (_chord(squared) - 0.5 * core * _chord(squared / core**2))


def _capsule(x: Array, y: Array, start: tuple[Array, Array], end: tuple[Array, Array]) -> Array:
    """Distance to the segment from `start` to `end`."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    from_x, from_y = x - start[0], y - start[1]
    share = ((from_x * along_x + from_y * along_y) / (along_x**2 + along_y**2)).clip(0, 1)
    return np.sqrt((from_x - share * along_x) ** 2 + (from_y - share * along_y) ** 2)


def _bump(value: Array, centre: Array | float, width: float) -> Array:
    return np.exp(-(((value - centre) / width) ** 2))


class Thorax:
    """B thoraces on a square grid of `grid` pixels, structure by structure.

    noise: anatomical noise by name, each `[B]`; texture: `[B, *TEXTURE_SHAPE]`. A map is `[B, grid, grid]`.
    """

    def __init__(self, body: Body, noise: Mapping[str, Array], texture: Array, grid: int) -> None:
        self.body, self.grid = body, grid
        self.noise = {name: np.asarray(noise[name], np.float32)[:, None, None] for name in ANATOMY}
        splines = spline(grid, TEXTURE_SHAPE[-1])
        self.texture = splines @ texture @ splines.T
        axis = ((np.arange(grid) + 0.5) / grid - 0.5).astype(np.float32) * np.float32(FIELD)
        self.y = axis[None, :, None] - body.centre_y
        self.x = axis[None, None, :] - body.centre_x - body.lean * self.y
        self.lateral = np.abs(self.x)
        self.left = self.x > 0
        self.edge = max(0.25, FIELD / grid)

        # The cage widens from the apex to y = 5 and narrows a little below.
        height = ((self.y - body.apex) / (5 - body.apex)).clip(0, 1)
        top = 4.3 * body.size
        self.cage = top + (body.cage - top) * (1 - (1 - height) ** 2.1) ** 0.66 - 0.06 * (self.y - 5).clip(0)
        self.height = height
        self.across = (self.lateral / self.cage).clip(0, 1)
        self.curve = _chord(self.across**2)

    def _step(self, distance: Array, width: float = 0.0) -> Array:
        """0 to 1 as `distance` grows through zero, over `width` cm or at least one pixel."""
        ramp = (distance / max(width, self.edge) + 0.5).clip(0, 1)
        return ramp * ramp * (3 - 2 * ramp)

    def _rod(self, distance: Array, radius: float) -> Array:
        """A tube drawn no thinner than the grid can show."""
        return _tube(distance, max(radius, 0.8 * self.edge)) * min(1.0, radius / (0.8 * self.edge))

    def soft_tissue(self) -> Array:
        """Depth of trunk, neck, shoulders, arms and breasts, lungs included."""
        body, x, y = self.body, self.lateral, self.y
        z = self.noise
        waist = body.cage + body.wall + 0.10 * body.belly * (y - 6).clip(0) ** 0.8
        squared = (x / waist) ** 2
        rise = ((y + 17) / 13).clip(0, 1)
        depth = body.trunk_depth * (0.52 + 0.48 * rise * (2 - rise)) + body.belly * ((y - 3) / 10).clip(0, 1)
        trunk = depth * _chord(squared * squared) * self._step(y - body.apex - 0.34 * x + 4.2, 3.0)
        neck = 11.5 * _chord((self.x / (5.2 + 0.5 * body.wall)) ** 2) * self._step(-y - 3, 14.0)
        top = body.apex + 3.2 - 0.25 * body.wall + 0.5 * z["shoulder"]
        joint = body.cage + 3.5
        shoulder = _capsule(x, y, (2.0 + 0 * joint, top - 0.5), (joint, top + 2.6)) / (4.6 + 0.35 * body.wall)
        arm = _capsule(x, y, (joint, top + 2.6), (joint + 6.5, top + 21)) / (4.6 + 0.4 * body.wall)
        limb = 11.0 * _chord(np.minimum(shoulder, arm) ** 2)
        return np.maximum(np.maximum(trunk, neck), limb) + self.breasts()

    def breasts(self) -> Array:
        """Breast tissue: fullest toward its lower border."""
        body = self.body
        across = (self.lateral - 0.60 * body.cage) / (5.3 + 0.7 * body.breast)
        down = (self.y - body.breast_y) / (4.2 + 0.6 * body.breast)
        sag = self._step(down + 0.1, 1.6) * 0.55 + 0.45
        return 1.4 * body.breast * _chord(across**2 + down**2) * sag

    def heart(self) -> Array:
        """Depth of the heart: the left ventricle's long ellipsoid, pointing down and left, and the right atrium."""
        body = self.body
        x, y = self.x - 1.5 * body.size - body.rotation, self.y - (body.dome - 3.6 * body.size)
        cosine, sine = np.cos(body.heart_angle), np.sin(body.heart_angle)
        along, around = x * cosine + y * sine, y * cosine - x * sine
        ventricle = _chord((along / body.heart) ** 2 + (around / (0.70 * body.heart)) ** 2)
        atrium = _chord(((x + 0.43 * body.heart) / (0.40 * body.heart)) ** 2 + ((y - 0.3) / (0.63 * body.heart)) ** 2)
        return 2.5 * body.heart * np.maximum(ventricle, 0.9 * atrium)

    def mediastinum(self) -> Array:
        """Share of the chest's depth that the great vessels, oesophagus and spine take, 0 to 1."""
        body, y = self.body, self.y
        arch = body.apex + 8.1
        right = (
            2.1
            + 0.35 * body.unfolding * _bump(y, arch + 4, 3.5)
            + 0.5 * _bump(y, arch + 1, 3.0)
            + 0.8 * self._step(body.apex + 2 - y, 6.0)
        )
        left = (
            1.6
            + (body.knob - 0.4 + 0.35 * body.unfolding) * _bump(y, arch, 1.7)
            + 1.25 * _bump(y, arch + 4.0, 2.1)
            + 0.75 * body.unfolding * _bump(y, arch + 5, 5.0)
            + 1.1 * self._step(body.apex + 2 - y, 6.0)
        )
        x = self.x - body.rotation
        return self._step(x + right, 1.1) * self._step(left - x, 0.9)

    def hila(self) -> Array:
        """Depth of the hilar vessels and of their branches, which fork by folding the angle around the hilum."""
        body, z = self.body, self.noise
        level = body.apex + 12.2 + 0.4 * z["hilum"] - np.where(self.left, 1.2, 0.0)
        x, y = self.lateral - 3.9 * body.size, self.y - level
        radius = np.sqrt(x * x + y * y) + 0.1
        trunk = 2.3 * np.exp(-(((x + 0.2) / 1.25) ** 2) - ((y - 0.3) / 2.5) ** 2)

        sector = np.float32(0.62)
        warp = 0.55 * self.texture[:, 0] + 0.35 * self.texture[:, 1] * np.minimum(radius / 6, 1)
        turn = (np.arctan2(y, x) + 0.3 * warp) / sector + np.where(self.left, z["tree_left"], z["tree"])
        angle = np.abs(turn - np.round(turn)) * sector
        for fork, start, end in ((0.155, 1.5, 4.5), (0.080, 4.0, 7.5), (0.040, 7.0, 11.0)):
            angle = np.abs(angle - fork * ((radius - start) / (end - start)).clip(0, 1))
        width = 0.34 * np.exp(-radius / 5.5) + 0.05
        drawn = np.maximum(width, 0.55 * self.edge)
        branch = 2.6 * width * width / drawn * np.exp(-((radius * angle / drawn) ** 2))
        return trunk + branch * np.exp(0.18 * z["vessels"]) * (1.25 + 0.5 * self.texture[:, 1]).clip(0.3)

    def airways(self) -> Array:
        """Depth of the air in trachea and main bronchi."""
        body = self.body
        carina = body.apex + 10.0
        centre = -0.25 * body.knob * _bump(self.y, carina - 2, 3.0) + 0.5 * body.rotation
        trachea = 2.2 * _chord(((self.x - centre) / 0.95) ** 2) * self._step(carina - self.y, 0.8)
        end = (np.where(self.left, 4.2, 3.2), carina + np.where(self.left, 2.6, 3.4))
        bronchus = _capsule(self.lateral, self.y, (0.2 + 0 * carina, carina - 0.3), end)
        return trachea + 1.0 * _chord((bronchus / 0.62) ** 2)

    def domes(self) -> Array:
        """Height of the diaphragm at each x: a dome on either side, steep toward the costophrenic angle."""
        body = self.body
        reach = (self.lateral - 5.6) / (0.97 * self.cage_base() - 5.6)
        droop = 1.3 * reach**2 + 3.2 * reach.clip(0) ** 4
        return body.dome + np.where(self.left, body.dome_step, 0) + droop

    def cage_base(self) -> Array:
        """Half-width of the cage at the costophrenic angle."""
        return self.body.cage - 0.3

    def lung_air(self) -> Array:
        """Depth of aerated lung, without any finding."""
        body = self.body
        inset = 4.3 * body.size * (1 - self.height / 0.40).clip(0) ** 1.4
        across = (self.lateral - inset) / (self.cage - inset).clip(0.2)
        cage = body.lung_depth * (1 - (1 - self.height) ** 3) ** 0.6 * _chord(across**2)
        depth = cage * (1 - self.mediastinum()) - self.heart() - self.hila()
        below = self.y - self.domes()
        aerated = self._step(-below, 0.35)
        recess = 0.30 * np.exp(-below.clip(0) / 1.6) * self._step(self.cage_base() + 0.5 - self.lateral)
        texture = 1 + 0.025 * self.texture[:, 3]
        return np.maximum(depth, 0) * (aerated + (1 - aerated) * recess) * texture * AIR

    def bubble(self) -> Array:
        """Depth of the gas in the stomach, with a flat fluid level, and of a loop of colon."""
        body, z = self.body, self.noise
        x, y = self.x - 6.0 - 0.9 * z["bubble_x"], self.y - (body.dome + body.dome_step + 0.7 + 1.1 * body.bubble)
        gas = _chord((x / (2.0 * body.bubble)) ** 2 + (y / (1.05 * body.bubble)) ** 2)
        gas = gas * self._step(0.35 * body.bubble - y + 3 * body.supine, 0.4)
        loop = _chord(((x - 3.6) / 1.5) ** 2 + ((y - 3.2 - z["bubble"]) / 1.0) ** 2)
        return 4.2 * body.bubble * gas + 2.2 * loop

    def bone(self) -> Array:
        """Depth of bone: ribs, spine, clavicles, scapulae, humeri, calcium."""
        return self.ribs() + self.spine() + self.shoulder_girdle() + self.plaque()

    def ribs(self) -> Array:
        """Ribs as tilted hoops, whose back half is the upper and whose front half the lower arc of an ellipse."""
        body, z = self.body, self.noise
        spacing = 2.35 * body.size
        origin = body.apex + 3.6 + 0.5 * z["rib_phase"]
        fall = body.rib_tilt * self.across / (self.cage * np.maximum(self.curve, 0.12))
        upright = 1 / np.sqrt(1 + fall * fall)
        tangent = 1 / np.maximum(self.curve, 0.45)
        bones = np.zeros_like(self.x)
        for sign, radius, first, last in ((1.0, 0.56, 0.4, 10.6), (-1.0, 0.62, -0.6, 5.4)):
            phase = (self.y - origin + sign * body.rib_tilt * (self.curve - 0.45)) / spacing
            distance = np.abs(phase - np.round(phase)) * spacing * upright
            arc = self._rod(distance, radius) * tangent * ((phase > first) & (phase < last))
            if sign < 0:
                arc = 0.6 * arc * self._step(self.across - 0.50, 0.25)
            bones += arc
        return 0.62 * bones * self._step(self.cage + 0.35 - self.lateral, 0.5) * (self.lateral > 1.2)

    def spine(self) -> Array:
        """Vertebral bodies with end plates and discs, pedicles and spinous processes."""
        body = self.body
        x = self.x - body.scoliosis * np.sin((self.y + 4) / 7)
        width = 1.55 + 0.018 * (self.y + 20)
        phase = (self.y + 0.35 * body.rib_tilt) / (2.35 * body.size)
        cycle = phase - np.floor(phase)
        vertebra = self._step((0.40 - np.abs(cycle - 0.5)) * 2.35, 0.5)
        column = 0.75 * _chord((x / width) ** 2) ** 0.7 * (0.66 + 0.34 * vertebra)
        lobes = ((np.abs(x) - 0.68 * width) / 0.38) ** 2 + ((cycle - 0.4) * 2.35 / 0.5) ** 2
        process = (x / 0.34) ** 2 + ((cycle - 0.75) * 2.35 / 0.7) ** 2
        return column + 0.30 * np.exp(-lobes) + 0.35 * np.exp(-process)

    def shoulder_girdle(self) -> Array:
        """Clavicles, shoulder blades (rotated off the lungs in PA, over them in AP) and upper arms."""
        body, x, y, z = self.body, self.lateral, self.y, self.noise
        joint = body.cage + 3.5
        top = body.apex + 3.2 + 0.5 * z["shoulder"]
        reach = ((x - 1.8) / (joint - 1.8)).clip(0, 1)
        slope = 3.6 + 0.9 * z["clavicle"] - 1.6 * body.supine
        line = top + 2.2 - slope * reach + 1.1 * np.sin(2 * np.pi * reach) * (1 - 0.3 * reach)
        clavicle = self._rod((y - line) * 0.95, 0.62) * self._step(x - 1.9, 0.5) * self._step(joint - 0.4 - x, 0.8)

        medial = body.blade * body.cage
        corners = ((medial, top + 1.2), (medial + 1.4, top + 13.0), (joint + 0.2, top + 3.0))
        inside = np.full_like(x, np.inf)
        for (ax, ay), (bx, by) in zip(corners, (*corners[1:], corners[0]), strict=True):
            length = np.sqrt((bx - ax) ** 2 + (by - ay) ** 2)
            inside = np.minimum(inside, ((bx - ax) * (ay - y) - (ay - by) * -(x - ax)) / -length)
        blade = 0.50 * self._step(inside, 0.5) + 0.55 * _bump(inside, 0.25, 0.45)

        head = 1.3 * _chord(((x - joint - 0.9) / 2.2) ** 2 + ((y - top - 2.6) / 2.5) ** 2) ** 1.5
        shaft = self._rod(_capsule(x, y, (joint + 1.4, top + 4.0), (joint + 7.5, top + 21)), 1.15)
        return 0.85 * clavicle + blade + np.maximum(head, 0.7 * shaft)

    def plaque(self) -> Array:
        """Calcium in the wall of the aortic arch and in the cartilage of the first ribs."""
        body = self.body
        x, y = self.x - 1.7 - 0.2 * body.knob - body.rotation, self.y - (body.apex + 8.1)
        radius = np.sqrt(x * x + y * y)
        arch = _bump(radius, body.knob, 0.6 * self.edge + 0.1) * self._step(x - 0.6 * y, 1.5)
        cartilage = _bump(self.lateral, 4.6, 1.0) * _bump(self.y, body.apex + 6.4, 0.8)
        return body.calcium * (0.55 * arch + 0.35 * cartilage)

    def pneumonia(self) -> Array:
        """Share of the air replaced by a patchy, soft-edged consolidation, 0 to 1."""
        body, z = self.body, self.noise
        side = np.where(z["lesion_side"] < 0.25, -1, 1)
        x = self.x - side * (7.6 + 1.1 * z["lesion_x"]) * body.size
        y = self.y - (body.dome - 4.4 * body.size + 2.6 * z["lesion_y"].clip(-2.2, 1.0))
        reach = 3.7 + 0.5 * z["lesion_size"].clip(-1.5, 2.5)
        spread = np.sqrt((x / reach) ** 2 + (y / (1.15 * reach)) ** 2)
        patch = self._step(1.0 - spread + 0.6 * self.texture[:, 2], 1.1)
        return patch * (spread < 2.2) * (0.62 + 0.10 * z["lesion_opacity"]).clip(0.35, 0.9)

    def effusion(self) -> Array:
        """Share of the air replaced by fluid at one base: a meniscus when upright, a haze when lying, 0 to 1."""
        body, z = self.body, self.noise
        side = self.left == (z["lesion_side"] < 0.1)
        level = self.cage_base_level() - (4.2 + 1.5 * z["lesion_size"]).clip(2.6, 9.0)
        climb = 2.6 * np.exp(-(self.cage_base() - self.lateral).clip(0) / 1.5)
        below = self.y - level + climb + 0.5 * np.exp(-(self.lateral - 3).clip(0) / 1.2)
        fluid = self._step(below, 0.8) * 0.95
        haze = self._step(below + 2.5, 7.0) * 0.55
        return side * np.maximum(fluid, body.supine * haze)

    def cage_base_level(self) -> Array:
        """Height of the costophrenic angles."""
        return self.body.dome + np.where(self.left, self.body.dome_step, 0) + 4.2

    def line_integral(self, lung_air: Array) -> Array:
        """L: optical depth of the whole body, given the depth of air left in the lungs."""
        body = self.body
        soft = self.soft_tissue()
        air = np.minimum(lung_air, 0.85 * soft) + self.airways() + self.bubble()
        inside = self._step(soft - 1.5, 3.0)
        return body.exposure * (MU_SOFT * np.maximum(soft - air, 0) + MU_BONE * body.density * inside * self.bone())

    def develop(self, lung_air: Array, resolution: int) -> Array:
        """The radiograph `[B, resolution, resolution]` in [0, 1]; the grid is a multiple of the resolution."""
        light = np.exp(-self.line_integral(lung_air)) + self.body.scatter
        ratio = self.grid // resolution
        light = light.reshape(len(light), resolution, ratio, resolution, ratio).mean(axis=(2, 4))
        return (-np.log(light) / LATITUDE).clip(0, 1).astype(np.float32)
