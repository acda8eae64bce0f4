"""Objects of a scene: shapes and plates."""

from dataclasses import dataclass

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """One shape: its centre `(x, y)`, its `radius` (units), its `angle` in radians, and whether it has stripes."""

    shape: str
    color: str
    x: float
    y: float
    radius: float
    angle: float
    striped: bool = False

    @property
    def name(self) -> str:
        """Color and shape."""
        return f"{self.color} {self.shape}"

    @property
    def box(self) -> Box:
        """`(left, top, right, bottom)` in units: the square around the shape's circle."""
        return self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius


@dataclass(frozen=True)
class Plate:
    """A plate of one color that says `text` in letters `symbol` high (units), centred at `(x, y)`."""

    text: str
    color: str
    x: float
    y: float
    symbol: float
    font: str

    @property
    def name(self) -> str:
        """Color and "plate"."""
        return f"{self.color} plate"

    @property
    def advance(self) -> float:
        """The width of one letter's cell, units."""
        return 0.85 * self.symbol

    @property
    def box(self) -> Box:
        """`(left, top, right, bottom)` in units."""
        w, h = (len(self.text) * self.advance + 0.7 * self.symbol) / 2, 0.9 * self.symbol
        return self.x - w, self.y - h, self.x + w, self.y + h

    def cell(self, i: int) -> Box:
        """The box of the i-th letter, units."""
        left = self.x + (i - len(self.text) / 2) * self.advance
        return left, self.y - self.symbol / 2, left + self.advance, self.y + self.symbol / 2
