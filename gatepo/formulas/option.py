"""The gate that a user writes as a formula: ``gate=custom gate.slope='1/(1+tau**2*(x-1)**2)'``."""

from __future__ import annotations

from torch import Tensor

from gatepo.errors import UserError
from gatepo.objective.custom import CustomGate, custom_gate
from gatepo.objective.gates import Formula
from gatepo.settings import option, setting


@option("gate", "custom")
class FormulaGate:
    """A gate as text in x (the ratio) and tau; its other side and its half-width are derived."""

    slope_text: str | None = setting(
        "f'(x) as a formula in x (the ratio) and tau, 1 at x = 1; exactly one of slope and value.",
        default=None,
        key="slope",
    )
    value_text: str | None = setting("f(x) as such a formula; any constant may be added.", default=None, key="value")

    def refuse_conflicts(self) -> None:
        """See :func:`gatepo.settings.section`."""
        if (self.slope_text is None) == (self.value_text is None):
            given = "neither" if self.slope_text is None else f"both, {self.slope_text} and {self.value_text}"
            raise UserError(
                f"gate=custom must have exactly one of gate.slope and gate.value, got {given}; "
                "e.g. gate.slope='1/(1+tau**2*(x-1)**2)'"
            )

    def require_usable(self, taus: tuple[float, ...]) -> None:
        """Refuse a formula that is no gate at these temperatures.

        Raises:
          UserError: what is wrong with it.
        """
        from gatepo.objective.symbolic.expression import ExpressionError  # and with it sympy

        try:
            custom_gate(slope=self.slope_text, value=self.value_text, taus=taus)
        except ExpressionError as error:
            raise UserError(f"gate.{'value' if self.slope_text is None else 'slope'} {error}") from error

    def value(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self._gate.value(ratio, tau, positive)

    def slope(self, ratio: Tensor, tau: Tensor, positive: Tensor) -> Tensor:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self._gate.slope(ratio, tau, positive)

    def half_width(self, tau: float) -> float:
        """See :class:`~gatepo.objective.gates.Gate`."""
        return self._gate.half_width(tau)

    def formula(self, positive: bool) -> Formula:
        """See :class:`~gatepo.objective.gates.Formulated`."""
        return self._gate.formula(positive)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was derived, and what had to be done numerically; one line each."""
        return self._gate.notes

    @property
    def _gate(self) -> CustomGate:
        if self.slope_text is not None:
            return CustomGate("slope", self.slope_text)
        return CustomGate("value", str(self.value_text))
