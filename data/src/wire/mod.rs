//! What travels to stage workers and back: the work of a stage as messages. Nobody else in this crate knows their form.

mod decode;
mod encode;
pub(crate) mod expect;
pub(crate) mod expression;
pub(crate) mod failing;
mod fold;
mod fragment;
pub(crate) mod group;
mod join;
mod partition;
pub(crate) mod sizes;
pub(crate) mod spec;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod window;

pub(crate) use decode::decode_task;
pub(crate) use encode::encode_task;
