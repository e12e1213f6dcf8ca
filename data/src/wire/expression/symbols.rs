//! Operators by number.

use datafusion_expr::Operator;

/// All operators that anything here computes. Both ends are of one build, so that a place in this list is a name.
pub(super) const OPERATORS: [Operator; 32] = [
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::Plus,
    Operator::Minus,
    Operator::Multiply,
    Operator::Divide,
    Operator::IntegerDivide,
    Operator::Modulo,
    Operator::And,
    Operator::Or,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
    Operator::RegexMatch,
    Operator::RegexIMatch,
    Operator::RegexNotMatch,
    Operator::RegexNotIMatch,
    Operator::LikeMatch,
    Operator::ILikeMatch,
    Operator::NotLikeMatch,
    Operator::NotILikeMatch,
    Operator::BitwiseAnd,
    Operator::BitwiseOr,
    Operator::BitwiseXor,
    Operator::BitwiseShiftRight,
    Operator::BitwiseShiftLeft,
    Operator::StringConcat,
    Operator::AtArrow,
    Operator::ArrowAt,
];

/// The number of an operator; `None`: nothing computes it.
pub(super) fn number(operator: Operator) -> Option<u32> {
    let place = OPERATORS.iter().position(|known| *known == operator)?;
    u32::try_from(place).ok()
}

/// The operator of a number.
pub(super) fn operator(number: u32) -> Option<Operator> {
    OPERATORS.get(usize::try_from(number).ok()?).copied()
}
