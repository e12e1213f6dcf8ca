"""Functions of numbers, as methods of expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._expr import Expr


class Numbers:
    """The methods of an expression that compute with a number."""

    def _call(self, function: str, *args: Any) -> Expr:
        raise NotImplementedError

    def power(self, exponent: Any) -> Expr:
        """The number to a power, as ``**``.

        Args:
            exponent: a number or an expression.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.range(3).with_column("square", col("id") ** 2).take(3)[-1]["square"] == 4
        True
        """
        return self._call("power", exponent)

    def round(self, decimals: int = 0) -> Expr:
        """The number rounded, halves away from zero.

        Args:
            decimals: digits that stay behind the point.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 2.345}]).with_column("a", col("a").round(1)).take_all()
        [{'a': 2.3}]
        """
        return self._call("round", decimals)

    def abs(self) -> Expr:
        """The number without its sign.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.from_items([{"a": -2}]).with_column("a", col("a").abs()).take_all()
        [{'a': 2}]
        """
        return self._call("abs")

    def sign(self) -> Expr:
        """-1, 0 or 1.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.from_items([{"a": -2.5}]).with_column("a", col("a").sign()).take_all()
        [{'a': -1.0}]
        """
        return self._call("signum")

    def ceil(self) -> Expr:
        """The number rounded up.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 2.5}]).with_column("a", col("a").ceil()).take_all()
        [{'a': 3.0}]
        """
        return self._call("ceil")

    def floor(self) -> Expr:
        """The number rounded down.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.from_items([{"a": 2.5}]).with_column("a", col("a").floor()).take_all()
        [{'a': 2.0}]
        """
        return self._call("floor")

    def trunc(self) -> Expr:
        """The number without what is behind the point.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> import aktis.data
        >>> aktis.data.from_items([{"a": -2.5}]).with_column("a", col("a").trunc()).take_all()
        [{'a': -2.0}]
        """
        return self._call("trunc")

    def exp(self) -> Expr:
        """e to the power of the number.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").exp()
        exp(col('a'))
        """
        return self._call("exp")

    def ln(self) -> Expr:
        """The natural logarithm.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").ln()
        ln(col('a'))
        """
        return self._call("ln")

    def log2(self) -> Expr:
        """The logarithm to base 2.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").log2()
        log2(col('a'))
        """
        return self._call("log2")

    def log10(self) -> Expr:
        """The logarithm to base 10.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").log10()
        log10(col('a'))
        """
        return self._call("log10")

    def sin(self) -> Expr:
        """The sine.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").sin()
        sin(col('a'))
        """
        return self._call("sin")

    def cos(self) -> Expr:
        """The cosine.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").cos()
        cos(col('a'))
        """
        return self._call("cos")

    def tan(self) -> Expr:
        """The tangent.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").tan()
        tan(col('a'))
        """
        return self._call("tan")

    def asin(self) -> Expr:
        """The angle of a sine.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").asin()
        asin(col('a'))
        """
        return self._call("asin")

    def acos(self) -> Expr:
        """The angle of a cosine.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").acos()
        acos(col('a'))
        """
        return self._call("acos")

    def atan(self) -> Expr:
        """The angle of a tangent.

        Returns:
            An expression.

        >>> from aktis.data.expressions import col
        >>> col("a").atan()
        atan(col('a'))
        """
        return self._call("atan")
