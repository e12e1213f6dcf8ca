//! Faults of a review, each as it would happen, and what the cluster promises then.

mod copies;
mod cut_off;
mod head;
mod head_news;
mod head_owes;
mod processes;
mod sandbox_itself;
mod starts;
mod turns;
