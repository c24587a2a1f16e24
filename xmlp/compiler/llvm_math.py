"""exp, expm1, log, log1p and tanh as LLVM's assembly language, in operations that all have vector forms.

Nothing branches, no table is read, and integers become numbers by their bits: a sum with 1.5 2^m, m being the bits of
the mantissa, is rounded to an integer, which then lies in its low bits. The equations are the same for both formats,
float32 and float64, but for tanh and a sum of expm1 that float64 has more exactly. Whether a product and a sum are
contracted to one operation is left to the processor: float64 is at most 1.5 units of the last place off, float32 2.5,
whatever the argument, subnormal numbers, infinities and signed zeros being as IEEE 754 has them.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from xmlp.compiler.llvm_code import TYPES, Code, literal

_Coefficients = tuple[float, ...]  # of a polynomial, the highest first


@dataclass(frozen=True)
class Format:
    """A format of floating-point numbers, and the constants of the functions for it.

    Parameters
    ----------
    integer : str
        The type of as many bits.
    mantissa, bias : int
        Bits of the mantissa, and what is added to the exponent.
    ln2 : tuple of float
        In two parts, the first short enough for exact multiples.
    exp : tuple of float
        P in exp(r) = 1 + r + r^2 P(r) for |r| <= ln 2 / 2.
    log : tuple of tuples of float
        P and Q in log(1 + f) = f - f^2 / 2 + f^3 P(f) / Q(f) for sqrt(1/2) <= 1 + f < sqrt(2); no Q is 1.
    exp_range, expm1_range : tuple of float
        Beyond them the value is that at the bound: zero, minus one, infinity.
    """

    dtype: str
    integer: str
    suffix: str
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    exp: _Coefficients
    log: tuple[_Coefficients, _Coefficients]
    exp_range: tuple[float, float]
    expm1_range: tuple[float, float]


_SINGLE = Format(  # minimax coefficients of the Cephes library
    dtype="float32", integer="i32", suffix="f32", mantissa=23, bias=127,
    ln2=(0.693359375, -2.12194440e-4),
    exp=(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
    log=((
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    ), ()),
    exp_range=(-104.0, 89.0), expm1_range=(-87.0, 88.9),
)  # fmt: skip
# Minimax coefficients by Remez's exchange in 60 digits, rational ones with the denominator of the step before in the
# equation of the alternating error. Of exp(r) - 1 the error is at most 2^-61 |r|, of log(1 + f) at most 2^-55.9 |f|.
_DOUBLE = Format(
    dtype="float64", integer="i64", suffix="f64", mantissa=52, bias=1023,
    ln2=(float.fromhex("0x1.62e42fefap-1"), float.fromhex("0x1.cf79abc9e3b3ap-40")),
    exp=(
        2.0924434124743313e-09, 2.5109023081046012e-08, 2.7557242795354346e-07, 2.755724424907172e-06,
        2.4801587360503007e-05, 0.0001984126988608603, 0.0013888888888866874, 0.008333333333321648,
        0.0416666666666667, 0.16666666666666677, 0.5,
    ),
    log=((
        0.0001025938700433764, 0.49748517665262565, 4.698598719386421, 14.45957185194167, 17.87115059176021,
        7.674170924951313,
    ), (
        1.0, 11.272765811565385, 45.12294585011264, 82.72546015823266, 70.8803363564241, 23.022512774853958,
    )),
    exp_range=(-746.0, 710.0), expm1_range=(-40.0, 710.0),
)  # fmt: skip
# P and Q in tanh(x) = x + x^3 P(x^2) / Q(x^2) for |x| < 3/4, likewise; the error is at most 2^-57 |x|
_TANH = (
    (-0.9644471334177109, -99.41040028215222, -1617.221408512482),
    (1.0, 112.94455655229379, 2238.8968910610242, 4851.664225537457),
)
_TANH_NEAR, _TANH_FAR = 0.75, 20.0  # up to the one P / Q serves; beyond the other tanh is 1


class _Lines:
    """The lines of a function of one format; operands are names of values, and numbers."""

    def __init__(self, format: Format):
        self.code, self.format = Code(), format
        self.kind, self.integer = TYPES[format.dtype], format.integer

    def bits(self, value: float) -> int:
        """The bits of a number as an integer."""
        real, integer = ("f", "i") if self.format.dtype == "float32" else ("d", "q")
        return int(struct.unpack(integer, struct.pack(real, value))[0])

    def written(self, value: str | float) -> str:
        """An operand as it stands in a line."""
        return value if isinstance(value, str) else literal(value, self.format.dtype)

    def operation(self, name: str, a: str | float, b: str | float) -> str:
        return self.code.new(f"{name} {self.kind} {self.written(a)}, {self.written(b)}")

    def add(self, a: str | float, b: str | float) -> str:
        return self.operation("fadd contract", a, b)

    def subtract(self, a: str | float, b: str | float) -> str:
        return self.operation("fsub contract", a, b)

    def multiply(self, a: str | float, b: str | float) -> str:
        return self.operation("fmul contract", a, b)

    def whole(self, name: str, a: str, b: str | int) -> str:
        """An operation on integers."""
        return self.code.new(f"{name} {self.integer} {a}, {b}")

    def as_integer(self, x: str) -> str:
        return self.code.new(f"bitcast {self.kind} {x} to {self.integer}")

    def as_number(self, n: str) -> str:
        return self.code.new(f"bitcast {self.integer} {n} to {self.kind}")

    def call(self, name: str, *values: str) -> str:
        passed = ", ".join(f"{self.kind} {value}" for value in values)
        return self.code.new(f"call {self.kind} @llvm.{name}.{self.format.suffix}({passed})")

    def compare(self, order: str, a: str, b: float) -> str:
        return self.operation(f"fcmp {order}", a, b)

    def select(self, condition: str, a: str | float, b: str | float) -> str:
        return self.code.new(f"select i1 {condition}, {self.kind} {self.written(a)}, {self.kind} {self.written(b)}")

    def within(self, x: str, low: float, high: float) -> str:
        """x kept between two numbers; nan stays nan."""
        x = self.select(self.compare("ogt", x, high), high, x)
        return self.select(self.compare("olt", x, low), low, x)

    def polynomial(self, x: str, coefficients: Sequence[float]) -> str:
        """Horner's scheme, the highest coefficient first."""
        value: str | float = coefficients[0]
        for c in coefficients[1:]:
            value = self.add(self.multiply(value, x), c)
        return str(value)

    def power_of_two(self, n: str) -> str:
        """2^n for an integer in the low bits of `n`, from -bias, which gives 0, to bias + 1."""
        biased = self.whole("add", n, self.format.bias)
        return self.as_number(self.whole("shl", biased, self.format.mantissa))


_Body: TypeAlias = Callable[[_Lines, str], str]  # writes a function, and returns the name of its value


class _Reduced(NamedTuple):
    """x = n ln 2 + r with |r| <= ln 2 / 2: n in the low bits of an integer and as a number, r, exp(r) - 1 - r."""

    n: str
    whole: str
    r: str
    tail: str


def _multiples(t: _Lines, x: str, whole: str) -> tuple[str, str]:
    """x - n a, which is exact, and n b, where ln 2 = a + b."""
    return t.subtract(x, t.multiply(whole, t.format.ln2[0])), t.multiply(whole, t.format.ln2[1])


def _reduced(t: _Lines, x: str) -> _Reduced:
    shifter = 1.5 * 2.0**t.format.mantissa
    shifted = t.operation("fadd", t.operation("fmul", x, 1.4426950408889634), shifter)
    whole = t.operation("fsub", shifted, shifter)
    r = t.subtract(*_multiples(t, x, whole))
    return _Reduced(t.as_integer(shifted), whole, r, t.multiply(t.polynomial(r, t.format.exp), t.multiply(r, r)))


def _exp(t: _Lines, x: str) -> str:
    """exp(x) = 2^n exp(r), the power in two factors so that neither overflows."""
    n, _, r, tail = _reduced(t, t.within(x, *t.format.exp_range))
    half = t.whole("lshr", n, 1)
    rest = t.whole("sub", n, half)
    scaled = t.multiply(t.add(t.add(tail, r), 1.0), t.power_of_two(half))
    return t.operation("fmul", scaled, t.power_of_two(rest))


def _expm1(t: _Lines, x: str) -> str:
    """exp(x) - 1 = 2 (2^(n-1) (exp(r) - 1) + (2^(n-1) - 1/2))."""
    n, _, r, tail = _reduced(t, t.within(x, *t.format.expm1_range))
    power = t.power_of_two(t.whole("sub", n, 1))
    half = t.add(t.multiply(power, t.add(tail, r)), t.subtract(power, 0.5))
    return t.operation("fadd", half, half)


def _precise_expm1(t: _Lines, x: str) -> str:
    """The same with 2^(n-1) r + (2^(n-1) - 1/2), and r, as sums of two numbers, the second what rounding took of the
    first (Dekker 1971); x itself near 0, where half a number may be no number.
    """
    inside = t.within(x, *t.format.expm1_range)
    n, whole, r, tail = _reduced(t, inside)
    high, low = _multiples(t, inside, whole)
    tail = t.add(tail, t.subtract(t.operation("fsub", high, r), low))
    power = t.power_of_two(t.whole("sub", n, 1))
    large, small = t.operation("fsub", power, 0.5), t.operation("fmul", power, r)
    total = t.operation("fadd", large, small)
    rest = t.operation("fsub", small, t.operation("fsub", total, large))
    half = t.add(total, t.add(t.multiply(power, tail), rest))
    return t.select(t.compare("olt", t.call("fabs", x), 2.0**-54), x, t.operation("fadd", half, half))


def _tanh(t: _Lines, x: str) -> str:
    """tanh(x) = -sign(x) e / (2 + e) with e = exp(-2 |x|) - 1."""
    e = _expm1(t, t.multiply(t.within(t.call("fabs", x), 0.0, 10.0), -2.0))
    return t.call("copysign", t.operation("fdiv", e, t.add(e, 2.0)), x)


def _precise_tanh(t: _Lines, x: str) -> str:
    """tanh(x) = sign(x) (1 - 2 / (1 + exp(2 |x|))), or x + x^3 P / Q near 0, with one division."""
    size = t.within(t.call("fabs", x), 0.0, _TANH_FAR)
    n, _, r, tail = _reduced(t, t.add(size, size))
    power = t.multiply(t.add(t.add(tail, r), 1.0), t.power_of_two(n))
    square = t.multiply(size, size)
    above, below = (t.polynomial(square, c) for c in _TANH)
    near = t.compare("olt", size, _TANH_NEAR)
    above = t.select(near, t.multiply(t.multiply(square, size), above), -2.0)
    quotient = t.operation("fdiv", above, t.select(near, below, t.add(power, 1.0)))
    return t.call("copysign", t.add(t.select(near, size, 1.0), quotient), x)


def _log(t: _Lines, x: str) -> str:
    """log(x) = e ln 2 + log(m) with x = 2^e m, sqrt(1/2) <= m < sqrt(2)."""
    m, bias = t.format.mantissa, t.format.bias
    tiny = t.compare("olt", x, 2.0 ** (1 - bias))
    bits = t.as_integer(t.select(tiny, t.multiply(x, 2.0**m), x))
    root = t.bits(0.5**0.5)
    from_root = t.whole("sub", bits, root)
    mantissa = t.as_number(t.whole("add", t.whole("and", from_root, (1 << m) - 1), root))
    exponent = t.whole("lshr", t.whole("add", from_root, bias << m), m)
    e = t.as_number(t.whole("or", exponent, t.bits(2.0**m)))
    e = t.subtract(e, t.select(tiny, 2.0**m + bias + m, 2.0**m + bias))
    f = t.subtract(mantissa, 1.0)
    square = t.multiply(f, f)
    above, below = t.format.log
    y = t.multiply(t.multiply(t.polynomial(f, above), f), square)
    y = t.operation("fdiv", y, t.polynomial(f, below)) if below else y
    y = t.subtract(t.add(y, t.multiply(e, t.format.ln2[1])), t.multiply(square, 0.5))
    value = t.add(t.add(f, y), t.multiply(e, t.format.ln2[0]))
    for test, limit, result in (("oeq", 0.0, float("-inf")), ("ult", 0.0, float("nan"))):
        value = t.select(t.compare(test, x, limit), result, value)
    return t.select(t.compare("oeq", x, float("inf")), x, value)


def _log1p(t: _Lines, x: str) -> str:
    """log(1 + x) = log(u) + (x - (u - 1)) / u with u = 1 + x as rounded."""
    u = t.operation("fadd", x, 1.0)
    logarithm = _log(t, u)
    lost = t.operation("fsub", x, t.operation("fsub", u, 1.0))
    value = t.add(logarithm, t.operation("fdiv", lost, u))
    value = t.select(t.compare("ogt", u, 0.0), value, logarithm)  # not so for x <= -1 and nan
    return t.select(t.compare("oeq", x, float("inf")), x, value)


def _signed(body: _Body) -> _Body:
    """The same with the sign of its argument, that of zero included."""
    return lambda t, x: t.call("copysign", body(t, x), x)


_BODIES: dict[str, tuple[Format, _Body]] = {
    "x.exp": (_SINGLE, _exp), "x.expm1": (_SINGLE, _signed(_expm1)), "x.tanh": (_SINGLE, _tanh),
    "x.log": (_SINGLE, _log), "x.log1p": (_SINGLE, _signed(_log1p)),
    "x.exp.f64": (_DOUBLE, _exp), "x.expm1.f64": (_DOUBLE, _precise_expm1), "x.tanh.f64": (_DOUBLE, _precise_tanh),
    "x.log.f64": (_DOUBLE, _log), "x.log1p.f64": (_DOUBLE, _signed(_log1p)),
}  # fmt: skip
FUNCTIONS = {(name.split(".")[1], format.dtype): name for name, (format, _) in _BODIES.items()}


def _definition(name: str, t: _Lines, body: _Body) -> str:
    result = body(t, "%x")
    return f"define internal {t.kind} @{name}({t.kind} %x) #1 {{\n{t.code.text}\n  ret {t.kind} {result}\n}}"


def prelude(kernels: str) -> str:
    """What a module of these kernels begins with: declarations, and the functions that they call."""
    lines = []
    for suffix, kind in (("f32", "float"), ("f64", "double")):
        lines += [f"declare {kind} @llvm.{name}.{suffix}({kind})" for name in ("fabs", "sqrt")]
        lines += [
            f"declare {kind} @llvm.{n}.{suffix}({kind}, {kind})" for n in ("pow", "maximum", "minimum", "copysign")
        ]
    lines.append("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    lines += [_definition(name, _Lines(f), body) for name, (f, body) in _BODIES.items() if f"@{name}(" in kernels]
    lines.append("attributes #0 = { noinline nounwind }")
    lines.append("attributes #1 = { alwaysinline nounwind willreturn memory(none) }")
    return "\n".join(lines) + "\n"
