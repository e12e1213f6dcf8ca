//! The form in which an expression travels.

use std::collections::HashMap;

use bytes::Bytes;
use prost::{Message, Oneof};

/// An expression: either a tree or a text.
///
/// The tree is a list in the order in which it is written down, each node before its children. A message in a message would
/// end at the depth that a decoder allows, and a filter of a hundred conditions is a tree a hundred deep.
#[derive(Clone, PartialEq, Message)]
pub struct ExpressionSpec {
    /// Each before its children; empty: it is a text.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    /// The values in it: an Arrow stream per type, with one column.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub literals: Vec<Bytes>,
    /// SQL over columns that only a run will show.
    #[prost(string, tag = "3")]
    pub text: String,
}

/// One node of the tree.
#[derive(Clone, PartialEq, Message)]
pub struct Node {
    /// How many of the nodes behind it, each with what is below it, are its children.
    #[prost(uint32, tag = "1")]
    pub children: u32,
    /// What it is.
    #[prost(
        oneof = "NodeKind",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"
    )]
    pub kind: Option<NodeKind>,
}

/// What a node is.
#[derive(Clone, PartialEq, Oneof)]
pub enum NodeKind {
    /// A column, by its name.
    #[prost(string, tag = "2")]
    Column(String),
    /// A value.
    #[prost(message, tag = "3")]
    Literal(LiteralNode),
    /// An operator between two, by its place in `symbols::OPERATORS`.
    #[prost(uint32, tag = "4")]
    Binary(u32),
    /// A test or a sign of one.
    #[prost(enumeration = "UnaryKind", tag = "5")]
    Unary(i32),
    /// `LIKE`, `ILIKE` or `SIMILAR TO`.
    #[prost(message, tag = "6")]
    Like(LikeNode),
    /// `BETWEEN`; true: `NOT BETWEEN`.
    #[prost(bool, tag = "7")]
    Between(bool),
    /// `IN`; true: `NOT IN`.
    #[prost(bool, tag = "8")]
    InList(bool),
    /// `CASE`.
    #[prost(message, tag = "9")]
    Case(CaseNode),
    /// `CAST` or `TRY_CAST`.
    #[prost(message, tag = "10")]
    Cast(CastNode),
    /// A function, by its name.
    #[prost(string, tag = "11")]
    Call(String),
    /// Another name.
    #[prost(message, tag = "12")]
    Alias(AliasNode),
    /// A function that takes lambdas, by its name.
    #[prost(string, tag = "13")]
    HigherOrderCall(String),
    /// A lambda.
    #[prost(message, tag = "14")]
    Lambda(LambdaNode),
    /// What a lambda gets, by its name.
    #[prost(string, tag = "15")]
    LambdaVariable(String),
}

/// A lambda, whose child is what it computes.
#[derive(Clone, PartialEq, Message)]
pub struct LambdaNode {
    /// What it gets.
    #[prost(string, repeated, tag = "1")]
    pub params: Vec<String>,
}

/// Where a value lies.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LiteralNode {
    /// In which of the streams.
    #[prost(uint32, tag = "1")]
    pub stream: u32,
    /// In which of its rows.
    #[prost(uint32, tag = "2")]
    pub row: u32,
    /// Whether the field of its stream has metadata that is the value's, if only an empty one.
    #[prost(bool, tag = "3")]
    pub has_metadata: bool,
}

/// A test or a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum UnaryKind {
    /// `NOT`.
    Not = 0,
    /// `-`.
    Negative = 1,
    /// `IS NULL`.
    IsNull = 2,
    /// `IS NOT NULL`.
    IsNotNull = 3,
    /// `IS TRUE`.
    IsTrue = 4,
    /// `IS NOT TRUE`.
    IsNotTrue = 5,
    /// `IS FALSE`.
    IsFalse = 6,
    /// `IS NOT FALSE`.
    IsNotFalse = 7,
    /// `IS UNKNOWN`.
    IsUnknown = 8,
    /// `IS NOT UNKNOWN`.
    IsNotUnknown = 9,
}

/// A pattern.
#[derive(Clone, PartialEq, Message)]
pub struct LikeNode {
    /// Whether it must not match.
    #[prost(bool, tag = "1")]
    pub is_negated: bool,
    /// Whether capitals do not matter.
    #[prost(bool, tag = "2")]
    pub ignores_case: bool,
    /// `SIMILAR TO`.
    #[prost(bool, tag = "3")]
    pub is_similar: bool,
    /// The character that takes the meaning of the next; absent: the usual one.
    #[prost(uint32, optional, tag = "4")]
    pub escape: Option<u32>,
}

/// The shape of a `CASE`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct CaseNode {
    /// Whether the first child is what is compared.
    #[prost(bool, tag = "1")]
    pub has_operand: bool,
    /// Whether the last child is the `ELSE`.
    #[prost(bool, tag = "2")]
    pub has_else: bool,
}

/// A change of type.
#[derive(Clone, PartialEq, Message)]
pub struct CastNode {
    /// An Arrow schema of one field: the type.
    #[prost(bytes = "bytes", tag = "1")]
    pub field: Bytes,
    /// Whether what does not fit becomes null.
    #[prost(bool, tag = "2")]
    pub is_try: bool,
}

/// Another name.
#[derive(Clone, PartialEq, Message)]
pub struct AliasNode {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What the column is marked with.
    #[prost(map = "string, string", tag = "2")]
    pub metadata: HashMap<String, String>,
    /// Whether it is marked, if only with nothing.
    #[prost(bool, tag = "3")]
    pub has_metadata: bool,
}
